-- question: which rollouts were drawn together with one, and how were they judged?
-- grain: one row per rollout of the group, the one itself included
-- params:
--   rollout: VARCHAR -- rollout_id
--   of_group: VARCHAR -- its group_id
--   run: VARCHAR -- its run_id, of which alone files are read
-- columns: rollout_id, sample_index, response_tokens, finish_reason, verifier, reward, outcome, extracted
SELECT
    rollout_id, sample_index, response_tokens, finish_reason, verifier, reward, outcome, extracted
FROM graded_rollouts
WHERE run_id = $run AND group_id = $of_group
ORDER BY sample_index, rollout_id
