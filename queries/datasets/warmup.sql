-- question: which teacher rollouts, in which order, make the forward-KL warmup (stage 2a)?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs: scorer_policy_id, support, k, response_logprobs
-- labels: chosen
-- policy: off
-- rollouts: teacher
-- candidates: considered, rated
-- params:
--   teacher: POLICY -- the policy that sampled the rollouts
--   scorer: ROUTE = NULL -- whose top-k to train on, or an SQL expression over the columns of prompts that names one for each; NULL: the teacher's own
--   runs: VARCHAR = NULL -- only rollouts of these generate runs: ids comma-separated
--   verifier: VARCHAR = math-verify -- whose rewards count as correct
--   correct_only: BOOLEAN = true -- keep only rollouts that were right, see macro is_correct
--   finished_only: BOOLEAN = true -- leave out rollouts cut off at max_tokens
--   k: COUNT = NULL -- entries per token; NULL: the largest stored
--   max_response_tokens: COUNT = NULL -- leave out longer responses
--   max_per_prompt: COUNT = NULL -- most rollouts of a prompt
--   min_pass_rate: DOUBLE = NULL -- leave out prompts that are solved less often, or not graded
--   max_pass_rate: DOUBLE = NULL -- leave out prompts that are solved more often, or not graded
--   pass_rate_of: POLICY = NULL -- whose graded train rollouts give a prompt's pass rate p, such as the student's; NULL: the teacher's
--   weighting: none|paced = none -- paced draws rollouts by p(1-p), as PACED (arXiv 2603.11178) weighs prompts with the student's p
--   rows_per_update: COUNT = 64 -- rows that one optimizer update consumes
--   passes: COUNT = 1 -- how often each rollout is used, in a fresh order each time
--   updates: COUNT = NULL -- stop after that many updates; NULL: use every row
--   target_tokens: COUNT = NULL -- stop after the update that reaches so many response tokens
-- columns: row, update, rollout_id, scorer_policy_id, support, k, labelled, reward, pass_rate
-- The weighted draw and the order are those of macro drawn.
WITH considered AS (
    SELECT r.*, t.scorer_policy_id, t.support, t.k
    FROM supervised_rollouts(
        $teacher, $runs, $verifier, $correct_only, $finished_only, $max_response_tokens,
        $min_pass_rate, $max_pass_rate, $pass_rate_of, $weighting
    ) AS r
    INNER JOIN teachers_topk(coalesce($scorer, $teacher), 'own', $k) AS t USING (rollout_id)
),
-- Whose rewards give the pass rates.
rated AS (  -- noqa: ST03
    SELECT rollout_id
    FROM rollouts
    WHERE
        purpose = 'train'
        AND policy_id = coalesce($pass_rate_of, $teacher)
        AND (
            $min_pass_rate IS NOT NULL OR $max_pass_rate IS NOT NULL OR $weighting <> 'none'
        )
        AND prompt_id IN (SELECT prompt_id FROM considered)
),
candidates AS (SELECT * EXCLUDE (chosen) FROM considered WHERE chosen)  -- noqa: ST03
SELECT row, update, rollout_id, scorer_policy_id, support, k, labelled, reward, pass_rate
FROM drawn(
    'candidates', $max_per_prompt, $passes, $rows_per_update, $updates, $target_tokens, $seed
)
ORDER BY row
