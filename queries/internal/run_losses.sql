-- question: how did the loss of a run go?
-- grain: one row
-- params:
--   run: VARCHAR -- run_id
-- columns: first, last, updates
SELECT arg_min(loss, update) AS first, arg_max(loss, update) AS last, count(*) AS updates
FROM updates
WHERE run_id = $run
