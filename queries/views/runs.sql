-- question: what ran, with which configuration, and how did it end?
-- grain: one row per run, with its newest status
-- columns: run_id, kind, stage, status, config, code_version, parents, started_at, entered_at
SELECT
    run_id,
    arg_max(kind, entered_at) AS kind,
    arg_max(stage, entered_at) AS stage,
    arg_max(status, entered_at) AS status,
    arg_max(config, entered_at) AS config,
    arg_max(code_version, entered_at) AS code_version,
    arg_max(parents, entered_at) AS parents,
    min(entered_at) AS started_at,
    max(entered_at) AS entered_at
FROM raw.runs
GROUP BY run_id
