-- question: which gold answers does a dataset spend, and which others spend them, too?
-- grain: one row per dataset that has any of these labels, itself included
-- params:
--   dataset: VARCHAR -- dataset_id
-- columns: dataset_id, name, labels
WITH mine AS (
    SELECT DISTINCT prompt_id
    FROM dataset_rows
    WHERE dataset_id = $dataset AND labelled
)
SELECT d.dataset_id, s.name, count(DISTINCT d.prompt_id) AS labels
FROM dataset_rows AS d
INNER JOIN mine AS m ON d.prompt_id = m.prompt_id
LEFT JOIN datasets AS s ON d.dataset_id = s.dataset_id
WHERE d.labelled
GROUP BY d.dataset_id, s.name
ORDER BY d.dataset_id <> $dataset, labels DESC, s.name
