-- question: how many different prompts and rollouts does a dataset use?
-- grain: one row
-- params:
--   dataset: VARCHAR -- its id
-- columns: prompts, rollouts
SELECT count(DISTINCT prompt_id) AS prompts, count(DISTINCT rollout_id) AS rollouts
FROM dataset_rows
WHERE dataset_id = $dataset
