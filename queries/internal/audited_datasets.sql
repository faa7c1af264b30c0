-- question: which locked datasets does an audit look at?
-- grain: one row per dataset
-- params:
--   datasets: VARCHAR = NULL -- names or ids, comma-separated
-- columns: dataset_id, name
SELECT dataset_id, name
FROM audited_datasets($datasets)
