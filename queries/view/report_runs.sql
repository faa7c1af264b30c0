-- question: which commands made what the store holds, with which versions?
-- grain: one row per run that ended well, in the order in which they began
-- params: none
-- columns: run_id, kind, stage, recipe, started_at, seconds, argv, versions, code_version
SELECT
    run_id, kind, stage, recipe, started_at,
    date_diff('millisecond', started_at, entered_at) / 1e3 AS seconds,
    argv, versions, code_version
FROM runs
WHERE status = 'done'
ORDER BY started_at, run_id
