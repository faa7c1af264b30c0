-- question: which scores were written with the rank tables of some tokenizers?
-- grain: one row per scorer, run, support and k
-- parameters: fingerprints (null: of every tokenizer)
-- columns: scorer_policy_id, run_id, support, k
SELECT DISTINCT
    t.scorer_policy_id,
    t.run_id,
    t.support,
    t.k
FROM raw.topk AS t
LEFT JOIN raw.policies AS p ON t.scorer_policy_id = p.policy_id
WHERE $fingerprints IS NULL OR list_contains($fingerprints, p.tokenizer_fingerprint)
ORDER BY ALL
