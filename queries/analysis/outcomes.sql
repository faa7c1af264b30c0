-- question: how did the verifier's verdicts fall, by policy?
-- grain: one row per policy, purpose, verifier and outcome
-- params: none
-- columns: policy, purpose, verifier, outcome, rollouts, mean_seconds
SELECT
    policy, purpose, verifier, outcome, count(*) AS rollouts,
    round(avg(verify_seconds), 4) AS mean_seconds
FROM rollout_rewards
GROUP BY ALL
ORDER BY ALL
