-- question: what was imported or captured, and so spent elsewhere?
-- grain: one row per run that imported or captured, policy, role and purpose
-- params:
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
-- columns: run_id, policy, role, purpose, rollouts, sampled_tokens, prompts
-- Tokens are counted where the import knows them: a rollout of text alone counts none.
SELECT
    r.run_id,
    o.name AS policy,
    r.role,
    r.purpose,
    count(*) AS rollouts,
    coalesce(sum(r.sampled_tokens), 0)::BIGINT AS sampled_tokens,
    count(DISTINCT r.prompt_id) AS prompts
FROM raw.rollouts AS r
LEFT JOIN raw.policies AS o USING (policy_id)
WHERE r.origin <> 'sampled' AND ($purpose IS NULL OR r.purpose = $purpose)
GROUP BY ALL
ORDER BY r.run_id, policy, r.role, r.purpose
