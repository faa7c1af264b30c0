-- question: how did training change each policy's pass rate, on the prompts graded before and after?
-- grain: one row per policy with a parent, and verifier
-- params:
--   policy: POLICY = any -- the policy; any: all that sampled as a teacher and have a parent
--   before: POLICY = parent -- the policy to compare with
--   verifier: VARCHAR = any -- whose rewards count
--   purpose: any|train|eval = any -- rollouts to compare
-- columns: policy, parent, verifier, prompts, rate_before, rate_after, gain, standard_error
SELECT *
FROM pass_rate_changes($policy, $before, $verifier, $purpose)
ORDER BY policy, verifier
