-- question: what does each optimizer update of a locked dataset consume?
-- grain: one row per update; needs no files, so dropped datasets answer too
-- params:
--   dataset: DATASET -- name (the newest of it) or id
-- columns: update, rows, prompts, prompt_tokens, response_tokens, longest_response, labels
SELECT
    d.update,
    count(*) AS rows,
    count(DISTINCT d.prompt_id) AS prompts,
    sum(r.prompt_tokens)::BIGINT AS prompt_tokens,
    sum(r.response_tokens)::BIGINT AS response_tokens,
    max(r.response_tokens) AS longest_response,
    count(DISTINCT d.prompt_id) FILTER (d.labelled) AS labels
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE d.dataset_id = dataset_named($dataset)
GROUP BY d.update
ORDER BY d.update
