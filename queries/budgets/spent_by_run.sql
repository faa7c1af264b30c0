-- question: which run spent what?
-- grain: one row a run
-- params: none
-- columns: run_id, kind, policy, role, purpose, labels, generated_tokens, scored_tokens, trained_tokens, updates, flops
SELECT
    s.run_id, s.kind, p.name AS policy, s.role, s.purpose, s.labels, s.generated_tokens,
    s.scored_tokens, s.trained_tokens, s.updates, s.flops
FROM spent AS s
LEFT JOIN policies AS p USING (policy_id)
ORDER BY ALL
