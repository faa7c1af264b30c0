-- question: how sure is each policy of its next token, along the response?
-- grain: one row per policy and stretch of positions
-- params:
--   policy: POLICY = NULL -- the sampling policy; NULL: every one
--   width: COUNT = 4 -- tokens of a stretch
--   sample: COUNT = 500 -- rollouts of each policy that are looked at, chosen by a hash of their ids
-- columns: policy, position, tokens, entropy, tail, logprob
-- position: the first of the stretch, from 0. entropy: of the policy's stored top-k with its tail as
-- one entry, in nats: a lower bound of the whole distribution's. tail: the probability that is not
-- stored. Both are null where the policy's own top-k is not stored.
WITH chosen AS (
    SELECT rollout_id
    FROM rollouts
    WHERE $policy IS NULL OR policy_id = $policy
    QUALIFY row_number() OVER (PARTITION BY policy_id ORDER BY md5(rollout_id)) <= $sample
),
-- A token once, however many scorers it has.
once AS (
    SELECT
        policy, rollout_id, position, any_value(policy_entropy) AS entropy,
        any_value(policy_tail) AS tail, any_value(logprob) AS logprob
    FROM tokens
    WHERE sampled AND rollout_id IN (SELECT rollout_id FROM chosen)
    GROUP BY policy, rollout_id, position
)
SELECT
    policy, position // $width * $width AS position, count(*) AS tokens,
    round(avg(entropy), 4) AS entropy, round(avg(tail), 5) AS tail,
    round(avg(logprob), 4) AS logprob
FROM once
GROUP BY ALL
ORDER BY policy, position
