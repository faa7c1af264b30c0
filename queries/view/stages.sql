-- question: which stages ran, for how long, and does one of them run now?
-- grain: one row per stage, in the order in which they began
-- params: none
-- columns: recipe, stage, kind, rounds, started_at, entered_at, seconds, running, planned_updates
-- rounds: those that another recipe took over as they were count once.
-- seconds: of the rounds that ended; where a stage has no rounds, of its runs. planned_updates: of
-- the whole stage, where its trainer was told; null where not.
SELECT
    string_agg(DISTINCT recipe, ', ' ORDER BY recipe) AS recipe,
    stage,
    coalesce(
        arg_max(config ->> '$.kind', started_at) FILTER (kind = 'round'),
        string_agg(DISTINCT kind, ', ' ORDER BY kind)
    ) AS kind,
    CASE
        WHEN bool_or(kind = 'round')
            THEN count(DISTINCT coalesce(config ->> '$.asked.same_as', run_id)) FILTER (kind = 'round')
        ELSE count(*) FILTER (kind = 'train')
    END AS rounds,
    min(started_at) AS started_at,
    max(entered_at) AS entered_at,
    coalesce(
        sum(date_diff('millisecond', started_at, entered_at)) FILTER (kind = 'round'),
        sum(date_diff('millisecond', started_at, entered_at))
    ) / 1e3 AS seconds,
    count(*) FILTER (status = 'running') AS running,
    max((config ->> '$.train.schedule_updates')::BIGINT) AS planned_updates
FROM runs
WHERE stage IS NOT NULL
GROUP BY stage
ORDER BY started_at, stage
