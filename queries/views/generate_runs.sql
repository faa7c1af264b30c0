-- question: what has each generate run sampled?
-- grain: one row per run (and policy, role and purpose, which a run does not mix)
-- columns: run_id, policy_id, role, purpose, rollouts, prompt_tokens, response_tokens, sampled_tokens
SELECT
    run_id,
    policy_id,
    role,
    purpose,
    count(*) AS rollouts,
    sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(response_tokens)::BIGINT AS response_tokens,
    sum(coalesce(sampled_tokens, response_tokens))::BIGINT AS sampled_tokens
FROM raw.rollouts
GROUP BY ALL
