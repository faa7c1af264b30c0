-- question: what ran, for how long, how did it end, and what did it store?
-- grain: one row per run, the newest first
-- params:
--   kind: VARCHAR -- generate, score, verify, train, eval or round; NULL: all but round
--   stage: VARCHAR -- NULL: every stage
--   now: TIMESTAMP -- until when a run that is running has lasted, UTC
-- columns: run_id, kind, stage, status, started_at, seconds, stored
-- stored: rollouts, verdicts, scored rollouts or updates.
WITH stored AS (
    SELECT run_id, count(*) AS stored FROM rollouts GROUP BY run_id
    UNION ALL
    SELECT run_id, count(*) FROM rewards GROUP BY run_id
    UNION ALL
    SELECT run_id, count(*) FROM updates GROUP BY run_id
    UNION ALL
    SELECT t.run_id, count(*)
    FROM topk AS t
    ANTI JOIN (SELECT DISTINCT run_id FROM rollouts) AS g USING (run_id)
    GROUP BY t.run_id
),
counted AS (
    SELECT run_id, max(stored) AS stored
    FROM stored
    GROUP BY run_id
)
SELECT
    r.run_id, r.kind, r.stage, r.status, r.started_at,
    epoch(
        CASE WHEN r.status = 'running' THEN $now::TIMESTAMP ELSE r.entered_at END - r.started_at
    ) AS seconds,
    coalesce(c.stored, 0) AS stored
FROM runs AS r
LEFT JOIN counted AS c USING (run_id)
WHERE
    CASE WHEN $kind IS NULL THEN r.kind <> 'round' ELSE r.kind = $kind END
    AND ($stage IS NULL OR r.stage = $stage)
ORDER BY r.started_at DESC, r.run_id
