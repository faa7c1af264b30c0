-- question: what has each run that brought rollouts sampled, captured or imported?
-- grain: one row per run (and policy, role and purpose, which a run does not mix)
-- columns: run_id, policy_id, role, purpose, rollouts, prompt_tokens, response_tokens, sampled_tokens, imported, token_pairs
-- imported: imported or captured; another system spent its tokens.
-- sampled_tokens are what the policy wrote; response_tokens count tools and environments, too.
-- token_pairs: of whole sequences as sampling with a key-value cache looks at them, all of the
-- prompt's with each other and half of the others.
SELECT
    run_id,
    policy_id,
    role,
    purpose,
    count(*) AS rollouts,
    coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
    coalesce(sum(response_tokens), 0)::BIGINT AS response_tokens,
    coalesce(sum(coalesce(sampled_tokens, response_tokens)), 0)::BIGINT AS sampled_tokens,
    bool_or(origin <> 'sampled') AS imported,
    coalesce(
        sum(
            (prompt_tokens + response_tokens)::DOUBLE * (prompt_tokens + response_tokens)
            + prompt_tokens::DOUBLE * prompt_tokens
        ) / 2,
        0
    ) AS token_pairs
FROM raw.rollouts
GROUP BY ALL
