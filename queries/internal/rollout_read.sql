-- question: what is one rollout, and what was it asked?
-- grain: one row
-- params:
--   rollout: VARCHAR -- rollout_id
-- columns: policy, role, purpose, stage, round, run_id, origin, source, split, prompt_id, gold, finish_reason, prompt_tokens, response_tokens, temperature, messages, response
SELECT
    coalesce(o.name, r.policy_id) AS policy, r.role, r.purpose, u.stage, r.round, r.run_id,
    r.origin, p.source, p.split, r.prompt_id,
    coalesce(p.answer, array_to_string(p.answers, ', ')) AS gold, r.finish_reason,
    r.prompt_tokens, r.response_tokens, round(r.temperature, 4) AS temperature,
    list_transform(p.messages, lambda m: struct_pack(role := m.role, content := m.content)) AS messages,
    r.response_text AS response
FROM rollouts AS r
LEFT JOIN policies AS o ON r.policy_id = o.policy_id
LEFT JOIN prompts AS p ON r.prompt_id = p.prompt_id
LEFT JOIN runs AS u ON r.run_id = u.run_id
WHERE r.rollout_id = $rollout
