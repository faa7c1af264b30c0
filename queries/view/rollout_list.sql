-- question: which rollouts are there, and how were they judged?
-- grain: one row per rollout, without its tokens and texts
-- params: none
-- columns: rollout_id, prompt_id, group_id, run_id, policy, role, purpose, split, round, sample_index, answer, verifier, reward, outcome, extracted, response_tokens, finish_reason, created_at
SELECT
    rollout_id, prompt_id, group_id, run_id, policy, role, purpose, split, round, sample_index,
    answer, verifier, reward, outcome, extracted[:200] AS extracted, response_tokens,
    finish_reason, created_at
FROM graded_rollouts
