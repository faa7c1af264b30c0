-- question: what is recorded of a policy, and where are its files now?
-- grain: one row, none where the policy is not registered
-- params:
--   policy_id: VARCHAR -- the policy
-- columns: name, kind, location, revision, tokenizer_fingerprint, tokenizer_hash, template_hash, n_parameters, active_parameters, lookup_parameters, head_parameters, attention_width
WITH moved AS (
    SELECT
        policy_id,
        arg_max(location, created_at) AS location,
        arg_max(revision, created_at) AS revision
    FROM relocations
    WHERE policy_id = $policy_id
    GROUP BY policy_id
)
SELECT
    p.name,
    p.kind,
    coalesce(m.location, p.location) AS location,
    CASE WHEN m.location IS NULL THEN p.revision ELSE m.revision END AS revision,
    p.tokenizer_fingerprint,
    p.tokenizer_hash,
    p.template_hash,
    p.n_parameters,
    p.active_parameters,
    p.lookup_parameters,
    p.head_parameters,
    p.attention_width
FROM policies AS p
LEFT JOIN moved AS m USING (policy_id)
WHERE p.policy_id = $policy_id
