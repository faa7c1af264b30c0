-- The locked datasets that an audit looks at: `all`, or names and ids comma-separated.
-- dataset_id, name, kind, lock, created_at.
CREATE MACRO audited_datasets(wanted) AS TABLE
    SELECT
        dataset_id, name, coalesce(lock ->> '$.kind', query) AS kind, lock::JSON AS lock, created_at
    FROM raw.datasets
    WHERE
        wanted = 'all'
        OR list_contains(string_split(wanted, ','), name)
        OR list_contains(string_split(wanted, ','), dataset_id)
