-- question: for which stages, roles and purposes are some scorings charged, and how many tokens each?
-- grain: one row per stage, role and purpose
-- params: none
-- columns: stage, role, purpose, prompt_tokens, scored_tokens, squared_tokens
-- _to_score: rollout_id, prompt_tokens and response_tokens of each scoring.
SELECT
    u.stage, r.role, r.purpose,
    sum(s.prompt_tokens) AS prompt_tokens,
    sum(s.response_tokens) AS scored_tokens,
    sum((s.prompt_tokens + s.response_tokens)::DOUBLE ** 2) AS squared_tokens
FROM _to_score AS s
INNER JOIN rollouts AS r USING (rollout_id)
LEFT JOIN runs AS u ON r.run_id = u.run_id
GROUP BY ALL
