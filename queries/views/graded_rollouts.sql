-- question: which rollouts were right?
-- grain: one row per rollout and verifier; reward and outcome are null where nothing graded it
-- columns: every column of rollouts, then policy, split, answer, verifier, reward, outcome, extracted
SELECT
    r.*,
    o.name AS policy,
    p.split,
    p.answer,
    w.verifier,
    w.reward,
    w.outcome,
    w.extracted
FROM raw.rollouts AS r
LEFT JOIN raw.policies AS o USING (policy_id)
LEFT JOIN raw.prompts AS p USING (prompt_id)
LEFT JOIN current_rewards AS w USING (rollout_id)
