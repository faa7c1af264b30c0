-- question: which runs sampled the rollouts of some datasets?
-- grain: one row per run
-- params:
--   datasets: VARCHAR -- a list of dataset ids
-- columns: run_id
SELECT DISTINCT r.run_id
FROM dataset_rows AS d
SEMI JOIN (SELECT unnest($datasets::VARCHAR[]) AS dataset_id) AS asked USING (dataset_id)
INNER JOIN rollouts AS r ON d.rollout_id = r.rollout_id
ORDER BY r.run_id
