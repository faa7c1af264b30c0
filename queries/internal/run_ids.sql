-- question: which runs are there?
-- grain: one row per run, oldest first
-- params: none
-- columns: name
SELECT run_id AS name
FROM runs
ORDER BY started_at
