-- question: which fresh rollouts on a GRPO stage's prompts, scored by the teacher, make a control without labels?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs: scorer_policy_id, support, k, response_logprobs
-- labels: none
-- policy: on
-- rollouts: own
-- control: treatment
-- params:
--   treatment: VARCHAR -- the GRPO dataset to match: the newest of that name, or an id
--   student: POLICY -- the version of the student that training starts from
--   teacher: ROUTE -- the policy whose scores to train on, or an SQL expression over the columns of prompts that names one for each
--   support: policy|own|union = policy -- policy: the teacher's logprobs at the student's own top k; own: the teacher's top k; union: both, see s2d score --support union
--   k: COUNT = NULL -- entries per token; NULL: the largest stored
--   max_lag: BIGINT = 0 -- how many optimizer updates behind the student its rollouts may be; 0: its own alone
--   any_sampling: BOOLEAN = false -- take rollouts drawn at a temperature other than 1, with top-p or top-k, too: losses on sampled tokens are biased by them
--   runs: VARCHAR = NULL -- only rollouts of these generate runs: ids comma-separated
--   round: BIGINT = NULL -- only this on-policy round
--   tolerance: DOUBLE = 0.02 -- largest relative difference of rows, in each update and in all
-- columns: row, update, rollout_id, scorer_policy_id, support, k, labelled, lag, round
-- As many updates and rows per update as the treatment, on the prompts that the treatment's generate
-- runs sampled. No reward chooses or weighs a row. The order is that of macro drawn.
WITH treated AS (
    SELECT max(rows) AS rows_per_update, count(*) AS updates
    FROM (
        SELECT update, count(*) AS rows
        FROM dataset_rows
        WHERE dataset_id = dataset_named($treatment)
        GROUP BY update
    )
),
treated_prompts AS (
    SELECT DISTINCT r.prompt_id
    FROM rollouts AS r
    SEMI JOIN (
        SELECT run_id FROM dataset_sources WHERE dataset_id = dataset_named($treatment)
    ) AS s ON r.run_id = s.run_id
),
candidates AS (  -- noqa: ST03
    SELECT
        r.rollout_id, r.prompt_id, r.response_tokens, r.round, t.scorer_policy_id, t.support, t.k,
        v.lag, 1 AS weight
    FROM eligible_rollouts($runs, $round, false, NULL) AS r
    SEMI JOIN treated_prompts AS p ON r.prompt_id = p.prompt_id
    INNER JOIN policy_lags($student) AS v ON r.policy_id = v.earlier_policy_id
    INNER JOIN teachers_topk($teacher, $support, $k) AS t ON r.rollout_id = t.rollout_id
    WHERE r.response_tokens > 0 AND v.lag <= $max_lag
)
SELECT
    row, update, rollout_id, scorer_policy_id, support, k, false AS labelled, lag, round
FROM drawn(
    'candidates', NULL, 1, (SELECT rows_per_update FROM treated), (SELECT updates FROM treated),
    NULL, $seed
)
ORDER BY row
