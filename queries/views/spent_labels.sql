-- question: which gold answers has training learned from?
-- grain: one row per training run and prompt whose reward entered the rows that the run trained on
-- columns: run_id, stage, role, purpose, prompt_id
SELECT DISTINCT c.run_id, t.stage, t.role, 'train' AS purpose, c.prompt_id
FROM consumed_rows AS c
INNER JOIN training_runs AS t USING (run_id)
WHERE c.labelled
