-- question: how often do a policy and its scorer think the same token likeliest?
-- grain: one row per sampling policy and scorer
-- params:
--   policy: POLICY = NULL -- the sampling policy; NULL: every one
--   sample: COUNT = 500 -- rollouts of each policy that are looked at, chosen by a hash of their ids
-- columns: policy, scorer, rollouts, tokens, agree, policy_sampled_its_top, scorer_would_take_it
-- agree: share of the sampled tokens where both have the same top-1. policy_sampled_its_top and
-- scorer_would_take_it: share where the sampled token is the policy's, or the scorer's, top-1.
WITH chosen AS (
    SELECT rollout_id
    FROM rollouts
    WHERE
        ($policy IS NULL OR policy_id = $policy)
        AND rollout_id IN (SELECT rollout_id FROM topk)
    QUALIFY row_number() OVER (PARTITION BY policy_id ORDER BY md5(rollout_id)) <= $sample
)
SELECT
    policy, scorer, count(DISTINCT rollout_id) AS rollouts, count(*) AS tokens,
    round(avg((policy_top = scorer_top)::INT), 4) AS agree,
    round(avg((token = policy_top)::INT), 4) AS policy_sampled_its_top,
    round(avg((token = scorer_top)::INT), 4) AS scorer_would_take_it
FROM tokens
WHERE scorer IS NOT NULL AND sampled AND rollout_id IN (SELECT rollout_id FROM chosen)
GROUP BY policy, scorer
ORDER BY policy, scorer
