-- question: how much top-k is stored, and how much probability does it cover?
-- grain: one row per scorer, support and k
-- params:
--   sample: COUNT = 1000 -- rollouts of each that mean_mass is taken from, chosen by a hash of their ids
-- columns: scorer, support, k, rollouts, tokens, mean_mass
WITH light AS (
    SELECT
        t.scorer_policy_id, t.support, t.k, t.rollout_id, r.response_tokens,
        row_number() OVER (
            PARTITION BY t.scorer_policy_id, t.support, t.k ORDER BY md5(t.rollout_id), t.rollout_id
        ) <= $sample AS in_sample
    FROM topk AS t
    LEFT JOIN rollouts AS r USING (rollout_id)
),
masses AS (
    SELECT
        t.scorer_policy_id, t.support, t.k,
        sum(list_sum(list_transform(t.logprobs, lambda x: exp(x)))) / sum(len(t.sampled_logprobs))
            AS mean_mass
    FROM topk AS t
    INNER JOIN light AS s USING (rollout_id, scorer_policy_id, support, k)
    WHERE s.in_sample
    GROUP BY ALL
),
counts AS (
    SELECT
        scorer_policy_id, support, k, count(*) AS rollouts, sum(response_tokens)::BIGINT AS tokens
    FROM light
    GROUP BY ALL
)
SELECT
    p.name AS scorer, c.support, c.k, c.rollouts, c.tokens, round(m.mean_mass, 5) AS mean_mass
FROM counts AS c
LEFT JOIN masses AS m USING (scorer_policy_id, support, k)
LEFT JOIN policies AS p ON c.scorer_policy_id = p.policy_id
ORDER BY ALL
