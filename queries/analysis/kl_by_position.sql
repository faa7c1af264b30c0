-- question: where in the response does a policy differ from its scorer?
-- grain: one row per sampling policy, scorer and stretch of positions
-- params:
--   policy: POLICY = NULL -- the sampling policy; NULL: every one
--   width: COUNT = 4 -- tokens of a stretch
--   sample: COUNT = 500 -- rollouts of each policy that are looked at, chosen by a hash of their ids
-- columns: policy, scorer, position, tokens, kl, kl_p95, logprob, scorer_logprob
-- position: the first of the stretch, from 0. kl: mean of logprob - scorer_logprob over the sampled
-- tokens, in nats: an estimate of KL(policy || scorer) that single tokens may have below 0.
WITH chosen AS (
    SELECT rollout_id
    FROM rollouts
    WHERE
        ($policy IS NULL OR policy_id = $policy)
        AND rollout_id IN (SELECT rollout_id FROM topk)
    QUALIFY row_number() OVER (PARTITION BY policy_id ORDER BY md5(rollout_id)) <= $sample
)
SELECT
    policy, scorer, position // $width * $width AS position, count(*) AS tokens,
    round(avg(kl), 4) AS kl, round(quantile_cont(kl, 0.95), 4) AS kl_p95,
    round(avg(logprob), 4) AS logprob, round(avg(scorer_logprob), 4) AS scorer_logprob
FROM tokens
WHERE scorer IS NOT NULL AND sampled AND rollout_id IN (SELECT rollout_id FROM chosen)
GROUP BY ALL
ORDER BY policy, scorer, position
