-- The locked datasets that an audit looks at: names and ids comma-separated, or NULL: those in the
-- variable datasets_in_use, which `s2d audit` sets, else all.
-- dataset_id, name, kind, on_policy, rollouts, has_topk, control_of, lock, created_at; see dataset_traits.
CREATE MACRO audited_datasets(wanted) AS TABLE
    SELECT
        d.dataset_id, d.name, k.kind, k.on_policy, k.rollouts, k.has_topk, k.control_of,
        d.lock::JSON AS lock, d.created_at
    FROM raw.datasets AS d
    INNER JOIN dataset_traits AS k USING (dataset_id)
    WHERE
        (
            wanted IS NULL
            AND coalesce(list_contains(getvariable('datasets_in_use'), d.dataset_id), true)
        )
        OR list_contains(string_split(wanted, ','), d.name)
        OR list_contains(string_split(wanted, ','), d.dataset_id)
