-- question: which labels does each locked dataset spend?
-- grain: one row per dataset and prompt whose reward decided over the dataset's rows
-- columns: dataset_id, prompt_id, update, in_rows
-- update is the first that uses the label. in_rows is false where the reward left the prompt out:
-- its label is spent too, before the first update.
WITH in_rows AS (
    SELECT dataset_id, prompt_id, min(update) AS update
    FROM raw.dataset_rows
    WHERE labelled
    GROUP BY dataset_id, prompt_id
)
SELECT dataset_id, prompt_id, update, true AS in_rows
FROM in_rows
UNION ALL
SELECT d.dataset_id, d.prompt_id, 1, false
FROM (
    SELECT dataset_id, unnest(lock ->> '$.label_rule.prompts[*]') AS prompt_id
    FROM raw.datasets
    WHERE (lock -> '$.label_rule') IS NOT NULL
) AS d
ANTI JOIN in_rows AS r USING (dataset_id, prompt_id)
