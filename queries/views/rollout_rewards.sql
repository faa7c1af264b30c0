-- question: what does each verifier say of each rollout, and whose rollout is it?
-- grain: one row per rollout and verifier; rollouts that nothing graded are not here
-- columns: every column of rollouts, then policy, split, answer, verifier, reward, outcome, extracted, verify_seconds
SELECT
    r.*,
    o.name AS policy,
    p.split,
    p.answer,
    w.verifier,
    w.reward,
    w.outcome,
    w.extracted,
    w.seconds AS verify_seconds
FROM current_rewards AS w
INNER JOIN raw.rollouts AS r USING (rollout_id)
LEFT JOIN raw.policies AS o USING (policy_id)
LEFT JOIN raw.prompts AS p USING (prompt_id)
