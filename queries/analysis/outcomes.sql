-- question: how did the verifier's verdicts fall, by policy?
-- grain: one row per policy, purpose, verifier and outcome
-- params: none
-- columns: policy, purpose, verifier, outcome, rollouts, mean_seconds
SELECT
    g.policy, g.purpose, g.verifier, g.outcome, count(*) AS rollouts,
    round(avg(w.seconds), 4) AS mean_seconds
FROM graded_rollouts AS g
INNER JOIN current_rewards AS w USING (rollout_id, verifier)
GROUP BY ALL
ORDER BY ALL
