-- question: what does the lock of a dataset say?
-- grain: one row, or none where there is no such dataset
-- params:
--   dataset: VARCHAR -- name (the newest of it) or id
-- columns: dataset_id, name, lock, created_at
SELECT dataset_id, name, lock, created_at
FROM datasets
WHERE dataset_id = dataset_named($dataset)
