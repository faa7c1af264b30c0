-- question: is any gold answer used by more than one stage?
-- grain: one row per prompt whose label the datasets of two or more stages use
-- params:
--   datasets: VARCHAR = NULL -- datasets to look at: names comma-separated; NULL: all in use
--   shared: VARCHAR = NULL -- stages, as teacher/grpo,student/warmup, that may use each other's labels
-- columns: prompt_id, stages, datasets
SELECT
    prompt_id,
    string_agg(DISTINCT stage, ',' ORDER BY stage) AS stages,
    string_agg(DISTINCT name, ',' ORDER BY name) AS datasets
FROM labels_by_stage($datasets)
WHERE prompt_id IN (
    SELECT prompt_id
    FROM labels_by_stage($datasets)
    GROUP BY prompt_id
    HAVING
        count(DISTINCT CASE
            WHEN list_contains(string_split($shared, ','), stage) THEN $shared ELSE stage
        END) > 1
)
GROUP BY prompt_id
ORDER BY prompt_id;

-- figures: labelled prompts, by stage
-- skipped when: no dataset uses labels
SELECT count(*) AS examined, stage, count(DISTINCT prompt_id) AS labels
FROM labels_by_stage($datasets)
GROUP BY stage
ORDER BY stage
