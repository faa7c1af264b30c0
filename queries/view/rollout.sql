-- question: what is one rollout, and what was it asked?
-- grain: one row, or none where there is no such rollout
-- params:
--   rollout: VARCHAR -- rollout_id
-- columns: rollout_id, role, run_id, group_id, origin, prompt_id, policy_id, purpose, round, sample_index, temperature, top_p, top_k, max_tokens, seed, engine, engine_version, tokens_from, sampler_logprobs, turns, response_text, finish_reason, prompt_tokens, response_tokens, created_at, policy, stage, source, split, messages, answer, answer_type
SELECT
    r.rollout_id, r.role, r.run_id, r.group_id, r.origin, r.prompt_id, r.policy_id, r.purpose,
    r.round, r.sample_index, r.temperature, r.top_p, r.top_k, r.max_tokens, r.seed, r.engine,
    r.engine_version, r.tokens_from, r.sampler_logprobs, r.turns, r.response_text,
    r.finish_reason, r.prompt_tokens, r.response_tokens, r.created_at,
    coalesce(o.name, r.policy_id) AS policy, u.stage, p.source, p.split, p.messages, p.answer,
    p.answer_type
FROM raw.rollouts AS r
LEFT JOIN raw.policies AS o ON r.policy_id = o.policy_id
LEFT JOIN raw.prompts AS p ON r.prompt_id = p.prompt_id
LEFT JOIN runs AS u ON r.run_id = u.run_id
WHERE r.rollout_id = $rollout
