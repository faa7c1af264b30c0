-- question: which rollouts does a seed draw for a reader?
-- grain: one row per rollout, in the order of the draw
-- params:
--   seed: VARCHAR -- of the draw
--   n_rollouts: COUNT -- how many
-- columns: rollout_id, policy, stage, purpose, messages, answer, response_text, response_tokens, finish_reason, outcome, reward
-- Rollouts of evaluations come first: they are what the results are made of. The draw is by a hash of
-- seed and id, so that the same store and seed give the same rollouts anywhere.
SELECT
    r.rollout_id, coalesce(o.name, r.policy_id) AS policy, u.stage, r.purpose, p.messages,
    p.answer, r.response_text, r.response_tokens, r.finish_reason, g.outcome, g.reward
FROM raw.rollouts AS r
LEFT JOIN raw.policies AS o ON r.policy_id = o.policy_id
LEFT JOIN raw.prompts AS p ON r.prompt_id = p.prompt_id
LEFT JOIN runs AS u ON r.run_id = u.run_id
LEFT JOIN graded_rollouts AS g ON r.rollout_id = g.rollout_id
ORDER BY r.purpose <> 'eval', md5(concat($seed, r.rollout_id))
LIMIT $n_rollouts
