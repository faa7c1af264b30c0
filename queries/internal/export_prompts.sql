-- question: which prompts does a dataset use, in the order of their first use?
-- grain: one row per distinct prompt
-- params:
--   dataset_id: VARCHAR -- the dataset
-- columns: prompt_id, source, split, messages, tools, answer, first, uses
WITH used AS (
    SELECT prompt_id, min(row) AS first, count(*) AS uses
    FROM dataset_rows
    WHERE dataset_id = $dataset_id
    GROUP BY prompt_id
)
SELECT p.prompt_id, p.source, p.split, p.messages, p.tools, p.answer, u.first, u.uses
FROM used AS u
INNER JOIN prompts AS p USING (prompt_id)
ORDER BY u.first
