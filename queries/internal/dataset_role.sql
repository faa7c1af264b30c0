-- question: in what role was a dataset's first rollout sampled?
-- grain: one row, none where the store lacks it
-- params:
--   dataset: VARCHAR -- its id
-- columns: role
SELECT r.role
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE d.dataset_id = $dataset AND d.row = 0
