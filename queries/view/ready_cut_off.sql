-- question: which rollouts were cut off at the most tokens?
-- grain: one row per rollout
-- params: none
-- columns: rollout_id
SELECT rollout_id
FROM rollouts
WHERE finish_reason = 'length'
