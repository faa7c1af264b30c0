-- question: which policies are registered, and where are their files now?
-- grain: one row per policy, in the order of registration
-- columns: name, policy_id, kind, n_parameters, parent, update, tokenizer, location
WITH moved AS (
    SELECT policy_id, arg_max(location, created_at) AS location
    FROM relocations
    GROUP BY policy_id
)
SELECT
    p.name,
    p.policy_id,
    p.kind,
    p.n_parameters,
    q.name AS parent,
    p.update,
    p.tokenizer_fingerprint AS tokenizer,
    coalesce(m.location, p.location) AS location
FROM policies AS p
LEFT JOIN policies AS q ON p.parent_policy_id = q.policy_id
LEFT JOIN moved AS m ON p.policy_id = m.policy_id
ORDER BY p.created_at
