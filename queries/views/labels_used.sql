-- question: which label did each optimizer update use?
-- grain: one row per training run, update and prompt whose reward decided over the rows
-- columns: run_id, update, dataset_id, prompt_id, visited
-- visited: the update's rows hold the prompt. Labels whose rewards left their prompt out stand at the
-- run's first update on the dataset, and are not visited.
SELECT DISTINCT u.run_id, u.update, u.dataset_id, d.prompt_id, true AS visited
FROM raw.updates AS u
INNER JOIN raw.dataset_rows AS d USING (dataset_id, update)
WHERE d.labelled
UNION ALL
SELECT u.run_id, u.update, u.dataset_id, d.prompt_id, false
FROM (
    SELECT run_id, dataset_id, min(update) AS update
    FROM raw.updates
    GROUP BY run_id, dataset_id
) AS u
INNER JOIN dataset_labels AS d USING (dataset_id)
WHERE NOT d.in_rows
