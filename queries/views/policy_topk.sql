-- question: what did the sampling policy itself rank highest at each token?
-- grain: one row per rollout and k
-- columns: every column of topk, then role
SELECT t.*, r.role
FROM raw.topk AS t
INNER JOIN raw.rollouts AS r ON t.rollout_id = r.rollout_id AND t.scorer_policy_id = r.policy_id
