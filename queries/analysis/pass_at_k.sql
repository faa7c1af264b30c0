-- question: what is the unbiased pass@k of each policy?
-- grain: one row per policy, purpose, split and verifier
-- params:
--   k: COUNT = 1 -- rollouts that may try
-- columns: policy, purpose, split, verifier, prompts, pass_at_k
WITH counts AS (
    SELECT
        policy, purpose, split, verifier, prompt_id,
        count(*) AS n, count(*) FILTER (is_correct(outcome, reward)) AS c
    FROM rollout_rewards
    WHERE is_correct(outcome, reward) IS NOT NULL
    GROUP BY ALL
)
SELECT
    policy, purpose, split, verifier, count(*) AS prompts,
    round(avg(pass_at_k(n, c, $k)), 4) AS pass_at_k
FROM counts
WHERE n >= $k
GROUP BY ALL
ORDER BY ALL
