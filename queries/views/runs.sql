-- question: what ran, with which configuration, and how did it end?
-- grain: one row per run, with its newest status
-- columns: run_id, kind, stage, recipe, attempt, status, config, argv, versions, code_version, parents, started_at, entered_at
SELECT
    run_id,
    arg_max(kind, entered_at) AS kind,
    arg_max(stage, entered_at) AS stage,
    arg_max(recipe, entered_at) AS recipe,
    arg_max(attempt, entered_at) AS attempt,
    arg_max(status, entered_at) AS status,
    arg_max(config, entered_at) AS config,
    arg_max(argv, entered_at) AS argv,
    arg_max(versions, entered_at) AS versions,
    arg_max(code_version, entered_at) AS code_version,
    arg_max(parents, entered_at) AS parents,
    min(entered_at) AS started_at,
    max(entered_at) AS entered_at
FROM raw.runs
GROUP BY run_id
