-- question: which datasets did each training run consume, from which update on?
-- grain: one row per training run and dataset
-- columns: run_id, dataset_id, first_update
-- first_update is 0 for a run that was done without a step, as its dataset has no rows: a GRPO round
-- in which no group's rewards differ. Its rewards were read all the same.
SELECT run_id, dataset_id, min(update) AS first_update
FROM raw.updates
GROUP BY run_id, dataset_id
UNION ALL
SELECT r.run_id, d.dataset_id, 0
FROM runs AS r
INNER JOIN raw.datasets AS d ON r.config ->> '$.dataset_id' = d.dataset_id
WHERE r.kind = 'train' AND r.status = 'done' AND (d.lock ->> '$.counts.updates')::INT = 0
