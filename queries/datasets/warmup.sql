-- question: which teacher rollouts, in which order, make the forward-KL warmup (stage 2a)?
-- grain: one row a use of a rollout, `row` is its place in training order
-- params:
--   teacher: POLICY -- the policy that sampled the rollouts
--   scorer: VARCHAR = teacher -- whose top-k to train on: teacher, or a policy's name
--   verifier: VARCHAR = math-verify -- whose rewards count as correct
--   correct_only: BOOLEAN = true -- keep only rollouts with reward > 0
--   finished_only: BOOLEAN = true -- leave out rollouts cut off at max_tokens
--   k: BIGINT = 0 -- entries a token; 0 takes the largest stored
--   max_response_tokens: BIGINT = 0 -- leave out longer responses; 0 keeps all
--   max_per_prompt: BIGINT = 0 -- most rollouts of a prompt; 0 keeps all
--   rows_per_update: BIGINT = 64 -- rows that one optimizer update consumes
--   passes: BIGINT = 1 -- how often each rollout is used, in a fresh order each time
--   updates: BIGINT = 0 -- stop after that many updates; 0 uses every row
-- columns: row, update, rollout_id, scorer_policy_id, support, k, labelled, reward
WITH scorer AS (
    SELECT policy_id
    FROM policies
    WHERE CASE WHEN $scorer = 'teacher' THEN policy_id = $teacher ELSE $scorer IN (name, policy_id) END
),
candidates AS (
    SELECT
        r.rollout_id,
        r.prompt_id,
        t.scorer_policy_id,
        t.k,
        w.reward,
        p.answer IS NOT NULL AND $correct_only AS labelled
    FROM rollouts AS r
    INNER JOIN prompts AS p USING (prompt_id)
    INNER JOIN topk AS t ON r.rollout_id = t.rollout_id AND t.support = 'own'
    INNER JOIN scorer AS s ON t.scorer_policy_id = s.policy_id
    LEFT JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = $verifier
    WHERE
        r.policy_id = $teacher
        AND r.purpose = 'train'
        AND r.response_tokens > 0
        AND ($k = 0 OR t.k = $k)
        AND (NOT $correct_only OR w.reward > 0)
        AND (NOT $finished_only OR r.finish_reason = 'stop')
        AND ($max_response_tokens = 0 OR r.response_tokens <= $max_response_tokens)
    QUALIFY row_number() OVER (PARTITION BY r.rollout_id ORDER BY t.k DESC) = 1
),
kept AS (
    SELECT *
    FROM candidates
    QUALIFY
        $max_per_prompt = 0
        OR row_number() OVER (
            PARTITION BY prompt_id ORDER BY md5(concat($seed, '/', rollout_id)), rollout_id
        ) <= $max_per_prompt
),
ordered AS (
    SELECT
        row_number() OVER (
            ORDER BY pass, md5(concat($seed, '/', pass, '/', rollout_id)), rollout_id
        ) - 1 AS row,
        *
    FROM kept
    CROSS JOIN range($passes) AS passes (pass)
)
SELECT
    row,
    row // $rows_per_update + 1 AS update,
    rollout_id,
    scorer_policy_id,
    'own' AS support,
    k,
    labelled,
    reward
FROM ordered
WHERE $updates = 0 OR row < $updates * $rows_per_update
ORDER BY row
