-- question: which labels does each optimizer update of a dataset use, and which of them first?
-- grain: one row per update
-- params:
--   dataset_id: VARCHAR -- the locked dataset
-- columns: update, labels, label_visits
-- A visit is one use of a prompt's label by one update; labels counts a prompt at its first visit,
-- so labels sum to the dataset's distinct labels and label_visits to its visits.
WITH visits AS (
    SELECT DISTINCT update, prompt_id
    FROM dataset_rows
    WHERE dataset_id = $dataset_id AND labelled
)
SELECT
    update,
    count(*) FILTER (update = first_update)::INT AS labels,
    count(*)::INT AS label_visits
FROM (SELECT *, min(update) OVER (PARTITION BY prompt_id) AS first_update FROM visits)
GROUP BY update
ORDER BY update
