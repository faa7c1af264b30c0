-- question: which rounds of recipes were begun, with which settings, and how did they end?
-- grain: one row per round
-- params: none
-- columns: run_id, recipe, stage, attempt, status, config
SELECT
    run_id,
    recipe,
    stage,
    attempt,
    status,
    config
FROM runs
WHERE kind = 'round'
ORDER BY started_at, run_id
