-- question: which labels did each training run use, at which update?
-- grain: one row per training run, update and prompt whose reward decided over the rows
-- columns: run_id, update, dataset_id, prompt_id, visited
-- visited: the update's rows hold the prompt. Labels whose rewards left their prompt out stand at the
-- run's first update on the dataset, at 0 where it took none, and are not visited.
SELECT DISTINCT u.run_id, u.update, u.dataset_id, d.prompt_id, true AS visited
FROM raw.updates AS u
INNER JOIN raw.dataset_rows AS d USING (dataset_id, update)
WHERE d.labelled
UNION ALL
SELECT u.run_id, u.update, u.dataset_id, d.prompt_id, false
FROM (SELECT run_id, dataset_id, first_update AS update FROM run_datasets) AS u
INNER JOIN dataset_labels AS d USING (dataset_id)
WHERE NOT d.in_rows
