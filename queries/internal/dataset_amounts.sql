-- question: how many rows and response tokens does each update of a locked dataset have?
-- grain: one row per update
-- params:
--   dataset: VARCHAR -- name (the newest of it) or id
-- columns: rows, response_tokens, prompts
SELECT
    count(*) AS rows,
    sum(r.response_tokens)::BIGINT AS response_tokens,
    count(DISTINCT r.prompt_id) AS prompts
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE d.dataset_id = dataset_named($dataset)
GROUP BY d.update
ORDER BY d.update
