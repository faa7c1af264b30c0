-- question: how much top-k is stored, and how much probability does it cover?
-- grain: one row per scorer, support and k
-- params: none
-- columns: scorer, support, k, rollouts, tokens, mean_mass
SELECT
    p.name AS scorer, t.support, t.k, count(*) AS rollouts,
    sum(len(t.sampled_logprobs)) AS tokens,
    round(
        sum(list_sum(list_transform(t.logprobs, lambda x: exp(x)))) / sum(len(t.sampled_logprobs)),
        5
    ) AS mean_mass
FROM topk AS t
LEFT JOIN policies AS p ON t.scorer_policy_id = p.policy_id
GROUP BY ALL
ORDER BY ALL
