-- question: which commands worked on each run?
-- grain: one row per run and command, in the order in which they began
-- columns: run_id, kind, config, recipe, argv
SELECT run_id, kind, config, recipe, argv
FROM raw.runs
GROUP BY ALL
ORDER BY min(entered_at)
