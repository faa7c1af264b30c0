-- question: which policies did each stage make, and which were there before any stage?
-- grain: one row per policy, oldest first; stage is null for those that no run of the store made
-- params: none
-- columns: policy, policy_id, stage, n_parameters, created_at
SELECT p.name AS policy, p.policy_id, r.stage, p.n_parameters, p.created_at
FROM policies AS p
LEFT JOIN runs AS r ON p.run_id = r.run_id
ORDER BY p.created_at, p.update, p.name
