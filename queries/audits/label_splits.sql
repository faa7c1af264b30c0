-- question: is any gold answer used by more than one stage?
-- grain: one row per prompt whose label the datasets of two or more stages use
-- params:
--   datasets: VARCHAR = all -- datasets to look at: names comma-separated, or all
--   shared: VARCHAR = none -- stages, as teacher/grpo,student/warmup, that may use each other's labels
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
ORDER BY prompt_id
