-- question: how many gold answers did each stage use, and how often?
-- grain: one row per role and stage that trained
-- params: none
-- columns: role, stage, runs, updates, labels, label_visits, visits_per_label
-- A label is a prompt whose reward decided over rows that were trained on, counted once; a visit is
-- its use by one update. Query spent_by_stage has tokens and FLOPs beside.
WITH labels AS (
    SELECT role, stage, count(DISTINCT prompt_id) AS labels
    FROM spent_labels
    GROUP BY role, stage
),
visits AS (
    SELECT
        t.role, t.stage, count(DISTINCT t.run_id) AS runs, count(u.update) AS updates,
        coalesce(sum(u.label_visits), 0)::BIGINT AS label_visits
    FROM training_runs AS t
    LEFT JOIN updates AS u USING (run_id)
    GROUP BY t.role, t.stage
)
SELECT
    v.role, v.stage, v.runs, v.updates, coalesce(l.labels, 0) AS labels, v.label_visits,
    round(v.label_visits / nullif(l.labels, 0), 2) AS visits_per_label
FROM visits AS v
LEFT JOIN labels AS l
    ON v.role IS NOT DISTINCT FROM l.role AND v.stage IS NOT DISTINCT FROM l.stage
ORDER BY v.role, v.stage
