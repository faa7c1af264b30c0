-- question: what was each policy made of?
-- grain: one row per policy and source
-- columns: policy_id, source_policy_id, run_id, dataset_id
SELECT DISTINCT policy_id, source_policy_id, run_id, dataset_id
FROM policy_sources
