-- question: how often is each policy right?
-- grain: one row per policy, purpose, split and verifier
-- params:
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
-- columns: policy, purpose, split, verifier, prompts, rollouts, pass_rate, mean_tokens, truncated
SELECT
    policy,
    purpose,
    split,
    verifier,
    count(DISTINCT prompt_id) AS prompts,
    count(*) AS rollouts,
    round(avg(reward), 4) AS pass_rate,
    round(avg(response_tokens), 1) AS mean_tokens,
    round(avg((finish_reason = 'length')::INT), 4) AS truncated
FROM rollout_rewards
WHERE reward IS NOT NULL AND ($purpose IS NULL OR purpose = $purpose)
GROUP BY ALL
ORDER BY ALL
