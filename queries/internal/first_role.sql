-- question: as what was a policy first sampled, teacher or student?
-- grain: one row, or none
-- params:
--   policy: POLICY -- the policy
-- columns: role
SELECT role
FROM rollouts
WHERE policy_id = $policy
ORDER BY created_at, role
LIMIT 1
