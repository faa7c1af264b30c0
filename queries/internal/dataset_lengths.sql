-- question: how long are the prompt and the response of each row of a dataset?
-- grain: one row per row of the dataset
-- params:
--   dataset: VARCHAR -- its id
-- columns: prompt_tokens, response_tokens
SELECT r.prompt_tokens, r.response_tokens
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE d.dataset_id = $dataset
