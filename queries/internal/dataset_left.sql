-- question: what has a run yet to train on of a dataset: squared lengths of rows, and label visits?
-- grain: one row
-- params:
--   dataset: VARCHAR -- its id
--   run: VARCHAR -- the training run
-- columns: squared_tokens, label_visits
SELECT
    coalesce(sum((r.prompt_tokens + r.response_tokens)::DOUBLE ** 2), 0) AS squared_tokens,
    count(DISTINCT concat(d.update, '/', d.prompt_id)) FILTER (d.labelled) AS label_visits
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE
    d.dataset_id = $dataset
    AND d.update NOT IN (SELECT update FROM updates WHERE run_id = $run)
