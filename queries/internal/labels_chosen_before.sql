-- question: the prompts of which rows had a rollout that a reward chose for an earlier dataset?
-- grain: one row per prompt
-- columns: prompt_id
-- _rows: prompt_id and rollout_id of the rows to come.
SELECT DISTINCT prompt_id
FROM _rows
SEMI JOIN (SELECT rollout_id FROM dataset_rows WHERE labelled) USING (rollout_id)
