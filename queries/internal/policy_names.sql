-- question: which policies are registered?
-- grain: one row per policy, oldest first
-- params: none
-- columns: policy_id, name
SELECT policy_id, name
FROM policies
ORDER BY created_at
