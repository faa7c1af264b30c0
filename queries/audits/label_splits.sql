-- question: is any gold answer used by more than one stage that must not share it?
-- grain: one row per prompt whose label the datasets of two or more such stages use
-- params:
--   datasets: VARCHAR = NULL -- datasets to look at: names comma-separated; NULL: all in use
--   shared: VARCHAR = NULL -- stages, as teacher/grpo,student/warmup, that may use each other's labels
-- columns: prompt_id, stages, datasets
-- Stages of recipes must not share a label along a line: where some policy was made from both, as its
-- parents or teachers. Stages of which no policy was made from both are arms of an experiment beside
-- each other, and may spend the same labels. What was trained by hand shares no label with anything.
WITH labels AS MATERIALIZED (SELECT * FROM labels_by_stage($datasets)),
named AS (SELECT DISTINCT stage, dataset_id, in_recipe FROM labels),
lines AS (
    SELECT line, dataset_id
    FROM datasets_on_lines()
    SEMI JOIN named USING (dataset_id)
),
on_one_line AS MATERIALIZED (
    SELECT DISTINCT a.dataset_id AS one, b.dataset_id AS other
    FROM lines AS a
    INNER JOIN lines AS b ON a.line = b.line AND a.dataset_id <> b.dataset_id
),
apart AS (
    SELECT a.stage AS one_stage, a.dataset_id AS one, b.stage AS other_stage, b.dataset_id AS other
    FROM named AS a
    INNER JOIN named AS b ON a.stage < b.stage
    LEFT JOIN on_one_line AS l ON a.dataset_id = l.one AND b.dataset_id = l.other
    WHERE
        (a.dataset_id = b.dataset_id OR l.one IS NOT NULL OR NOT (a.in_recipe AND b.in_recipe))
        AND NOT coalesce(list_has_all(string_split($shared, ','), [a.stage, b.stage]), false)
),
offending AS (
    SELECT a.prompt_id, unnest([one_stage, other_stage]) AS stage, unnest([a.name, b.name]) AS name
    FROM apart AS p
    INNER JOIN labels AS a ON p.one = a.dataset_id AND p.one_stage = a.stage
    INNER JOIN labels AS b
        ON p.other = b.dataset_id AND p.other_stage = b.stage AND a.prompt_id = b.prompt_id
)
SELECT
    prompt_id,
    string_agg(DISTINCT stage, ',' ORDER BY stage) AS stages,
    string_agg(DISTINCT name, ',' ORDER BY name) AS datasets
FROM offending
GROUP BY prompt_id
ORDER BY prompt_id;

-- figures: labelled prompts, by stage
-- skipped when: no dataset uses labels
SELECT count(*) AS examined, stage, count(DISTINCT prompt_id) AS labels
FROM labels_by_stage($datasets)
GROUP BY stage
ORDER BY stage
