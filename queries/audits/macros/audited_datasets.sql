-- The locked datasets that an audit looks at: names and ids comma-separated, or NULL: those in the
-- variable datasets_in_use, which `s2d audit` sets, else all.
-- dataset_id, name, kind, lock, created_at.
CREATE MACRO audited_datasets(wanted) AS TABLE
    SELECT
        dataset_id, name, coalesce(lock ->> '$.kind', query) AS kind, lock::JSON AS lock, created_at
    FROM raw.datasets
    WHERE
        (wanted IS NULL AND coalesce(list_contains(getvariable('datasets_in_use'), dataset_id), true))
        OR list_contains(string_split(wanted, ','), name)
        OR list_contains(string_split(wanted, ','), dataset_id)
