-- question: over which updates did each training run consume which dataset?
-- grain: one row per run and dataset, in the order of first use
-- params: none
-- columns: run_id, dataset_id, first_update, last_update
SELECT run_id, dataset_id, min(update) AS first_update, max(update) AS last_update
FROM updates
GROUP BY ALL
ORDER BY first_update
