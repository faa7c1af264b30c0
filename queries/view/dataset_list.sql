-- question: which datasets were ever locked, and which stage trained on them?
-- grain: one row per dataset, newest first
-- params: none
-- columns: dataset_id, name, kind, query, fingerprint, created_at, rows, updates, response_tokens, labels, stage
SELECT
    d.dataset_id, d.name, coalesce(d.lock ->> '$.kind', d.query) AS kind, d.query, d.fingerprint,
    d.created_at,
    (d.lock ->> '$.counts.rows')::BIGINT AS rows,
    (d.lock ->> '$.counts.updates')::BIGINT AS updates,
    (d.lock ->> '$.counts.response_tokens')::BIGINT AS response_tokens,
    (d.lock ->> '$.counts.labels')::BIGINT AS labels,
    (
        SELECT string_agg(DISTINCT r.stage, ', ' ORDER BY r.stage)
        FROM updates AS u
        INNER JOIN runs AS r ON u.run_id = r.run_id
        WHERE u.dataset_id = d.dataset_id
    ) AS stage
FROM datasets AS d
ORDER BY d.created_at DESC, d.name
