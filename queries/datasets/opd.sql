-- question: which rollouts of the student, scored by the teacher, make on-policy distillation (stage 2b)?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs: scorer_policy_id, support, k, response_logprobs
-- labels: none
-- policy: on
-- rollouts: own
-- params:
--   student: POLICY -- the version of the student that training starts from
--   teacher: ROUTE -- the policy whose scores to train on, or an SQL expression over the columns of prompts that names one for each
--   support: policy|own|union = policy -- policy: the teacher's logprobs at the student's own top k, for reverse KL; own: the teacher's top k; union: both, see s2d score --support union
--   k: COUNT = NULL -- entries per token; NULL: the largest stored
--   max_lag: BIGINT = 0 -- how many optimizer updates behind the student its rollouts may be; 0: its own alone
--   any_sampling: BOOLEAN = false -- take rollouts drawn at a temperature other than 1, with top-p or top-k, too: losses on sampled tokens are biased by them
--   runs: VARCHAR = NULL -- only rollouts of these generate runs: ids comma-separated
--   round: BIGINT = NULL -- only this on-policy round
--   finished_only: BOOLEAN = false -- leave out rollouts cut off at max_tokens
--   max_response_tokens: COUNT = NULL -- leave out longer responses
--   max_per_prompt: COUNT = NULL -- most rollouts of a prompt
--   rows_per_update: COUNT = 64 -- rows that one optimizer update consumes
--   passes: COUNT = 1 -- how often each rollout is used, in a fresh order each time
--   updates: COUNT = NULL -- stop after that many updates; NULL: use every row
--   target_tokens: COUNT = NULL -- stop after the update that reaches so many response tokens
-- columns: row, update, rollout_id, scorer_policy_id, support, k, labelled, lag, round
-- No reward chooses or weighs a row, so no label is spent. Lag: see macro policy_lags; the order is
-- that of macro drawn.
WITH candidates AS (  -- noqa: ST03
    SELECT
        r.rollout_id, r.prompt_id, r.response_tokens, r.round, t.scorer_policy_id, t.support, t.k,
        v.lag, 1 AS weight
    FROM eligible_rollouts($runs, $round, $finished_only, $max_response_tokens) AS r
    INNER JOIN policy_lags($student) AS v ON r.policy_id = v.earlier_policy_id
    INNER JOIN teachers_topk($teacher, $support, $k) AS t USING (rollout_id)
    WHERE r.response_tokens > 0 AND v.lag <= $max_lag
)
SELECT
    row, update, rollout_id, scorer_policy_id, support, k, false AS labelled, lag, round
FROM drawn(
    'candidates', $max_per_prompt, $passes, $rows_per_update, $updates, $target_tokens, $seed
)
ORDER BY row
