-- question: what does each verifier say of some rollouts?
-- grain: one row per rollout and verifier
-- params:
--   rollouts: VARCHAR -- rollout_ids, a list
-- columns: rollout_id, verifier, outcome, reward, extracted
SELECT rollout_id, verifier, outcome, reward, extracted[:200] AS extracted
FROM current_rewards
WHERE rollout_id IN (SELECT unnest($rollouts))
ORDER BY rollout_id, verifier
