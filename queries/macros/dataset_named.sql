-- The id of a locked dataset: the newest of that name, or the one of that id; NULL where there is
-- none.
CREATE MACRO dataset_named(wanted) AS (
    SELECT dataset_id
    FROM raw.datasets
    WHERE wanted IN (name, dataset_id)
    ORDER BY created_at DESC, dataset_id
    LIMIT 1
)
