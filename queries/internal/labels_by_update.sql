-- question: which labels does each optimizer update of a dataset use, and which of them first?
-- grain: one row per update
-- params:
--   dataset_id: VARCHAR -- the locked dataset
-- columns: update, labels, label_visits
-- A visit is one use of a prompt's label by one update; labels counts a prompt at its first visit, or,
-- where its reward left it out, at the first update, so labels sum to the dataset's distinct labels
-- and label_visits to its visits.
WITH visits AS (
    SELECT update, count(DISTINCT prompt_id) AS label_visits
    FROM dataset_rows
    WHERE dataset_id = $dataset_id AND labelled
    GROUP BY update
),
firsts AS (
    SELECT update, count(*) AS labels
    FROM dataset_labels
    WHERE dataset_id = $dataset_id
    GROUP BY update
)
SELECT
    update,
    coalesce(f.labels, 0)::INT AS labels,
    coalesce(v.label_visits, 0)::INT AS label_visits
FROM visits AS v
FULL JOIN firsts AS f USING (update)
ORDER BY update
