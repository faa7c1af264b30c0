-- question: what does a teacher say of each token, on its own rollouts or on a student's?
-- grain: one row per rollout, scorer, support and k
-- columns: every column of topk, then role and policy_id of the rollout
SELECT t.*, r.role, r.policy_id
FROM raw.topk AS t
INNER JOIN raw.rollouts AS r USING (rollout_id)
WHERE r.role = 'teacher' OR t.scorer_policy_id <> r.policy_id
