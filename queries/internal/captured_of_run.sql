-- question: which rollouts does a run have, and where do they stand in their groups?
-- grain: one row per rollout
-- params:
--   run: text -- the run
-- columns: rollout_id, group_id, sample_index
SELECT rollout_id, group_id, sample_index
FROM raw.rollouts
WHERE run_id = $run
