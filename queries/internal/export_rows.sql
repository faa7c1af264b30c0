-- question: what does the store know of each row of a dataset, beside what the dataset's files hold?
-- grain: one row per row of the dataset, in training order
-- params:
--   dataset_id: VARCHAR -- the dataset
-- columns: row, rollout_id, prompt_id, run_id, finish_reason, response_tokens, sampled_tokens
SELECT
    d.row, d.rollout_id, d.prompt_id, r.run_id, r.finish_reason, r.response_tokens,
    r.sampled_tokens
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE d.dataset_id = $dataset_id
ORDER BY d.row
