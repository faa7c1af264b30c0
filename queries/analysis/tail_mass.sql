-- question: how much probability lies outside the stored top-k?
-- grain: one row per sampling policy, and policy whose top-k it is
-- params:
--   policy: POLICY = NULL -- the sampling policy; NULL: every one
--   sample: COUNT = 500 -- rollouts of each policy that are looked at, chosen by a hash of their ids
-- columns: policy, topk_of, tokens, mean, p50, p90, p99, largest
-- Quantiles over tokens. A mean hides a long tail: at some tokens nearly all of it is outside.
WITH chosen AS (
    SELECT rollout_id
    FROM rollouts
    WHERE
        ($policy IS NULL OR policy_id = $policy)
        AND rollout_id IN (SELECT rollout_id FROM topk)
    QUALIFY row_number() OVER (PARTITION BY policy_id ORDER BY md5(rollout_id)) <= $sample
),
looked_at AS MATERIALIZED (
    SELECT *
    FROM tokens
    WHERE rollout_id IN (SELECT rollout_id FROM chosen)
),
tails AS (
    SELECT policy, scorer AS topk_of, scorer_tail AS tail
    FROM looked_at
    WHERE scorer IS NOT NULL
    UNION ALL
    SELECT policy, policy, any_value(policy_tail)
    FROM looked_at
    GROUP BY policy, rollout_id, position
)
SELECT
    policy, topk_of, count(*) AS tokens, round(avg(tail), 6) AS mean,
    round(quantile_cont(tail, 0.5), 6) AS p50, round(quantile_cont(tail, 0.9), 6) AS p90,
    round(quantile_cont(tail, 0.99), 6) AS p99, round(max(tail), 6) AS largest
FROM tails
WHERE tail IS NOT NULL
GROUP BY policy, topk_of
ORDER BY policy, topk_of
