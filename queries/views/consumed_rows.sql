-- question: which rollouts fed which optimizer update that was really taken?
-- grain: one row per training run, update and dataset row
-- columns: run_id, update, dataset_id, row, rollout_id, prompt_id, labelled
SELECT u.run_id, u.update, d.dataset_id, d.row, d.rollout_id, d.prompt_id, d.labelled
FROM raw.updates AS u
INNER JOIN raw.dataset_rows AS d USING (dataset_id, update)
