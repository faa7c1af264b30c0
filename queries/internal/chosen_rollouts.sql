-- question: which rollouts stand in the datasets that an audit looks at?
-- grain: one row per rollout
-- params:
--   datasets: VARCHAR -- names or ids, comma-separated
-- columns: rollout_id
SELECT DISTINCT rollout_id
FROM chosen_rollouts($datasets)
