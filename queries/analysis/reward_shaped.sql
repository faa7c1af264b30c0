-- question: how did training change each policy's pass rate, on the prompts graded before and after?
-- grain: one row per policy with a parent, and verifier
-- params:
--   policy: POLICY = NULL -- the policy; NULL: all that sampled as a teacher and have a parent
--   before: POLICY = NULL -- the policy to compare with; NULL: its parent
--   verifier: VARCHAR = NULL -- whose rewards count; NULL: every verifier's
--   purpose: train|eval = NULL -- rollouts to compare; NULL: both
-- columns: policy, parent, verifier, prompts, rate_before, rate_after, gain, standard_error
SELECT *
FROM pass_rate_changes($policy, $before, $verifier, $purpose)
ORDER BY policy, verifier
