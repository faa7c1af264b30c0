-- question: which datasets were ever built?
-- grain: one row per dataset, oldest first
-- params: none
-- columns: dataset_id, name
SELECT dataset_id, name
FROM raw.datasets
ORDER BY created_at
