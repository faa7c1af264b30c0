-- question: what do the squared lengths of a dataset's rows come to that a run has yet to train on?
-- grain: one row
-- params:
--   dataset: VARCHAR -- its id
--   run: VARCHAR -- the training run
-- columns: squared_tokens
SELECT coalesce(sum((r.prompt_tokens + r.response_tokens)::DOUBLE ** 2), 0) AS squared_tokens
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE
    d.dataset_id = $dataset
    AND d.update NOT IN (SELECT update FROM updates WHERE run_id = $run)
