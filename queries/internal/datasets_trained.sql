-- question: which datasets has a run trained on?
-- grain: one row per dataset
-- params: none
-- columns: dataset_id
SELECT DISTINCT dataset_id
FROM run_datasets
