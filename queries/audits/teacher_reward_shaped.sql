-- question: did reinforcement learning raise the teacher's pass rate (C1)?
-- grain: one row per policy and verifier whose pass rate did not rise over its parent's
-- params:
--   policy: POLICY = any -- the policy; any: all that sampled as a teacher and have a parent
--   before: POLICY = parent -- the policy to compare with
--   verifier: VARCHAR = any -- whose rewards count
--   purpose: any|train|eval = any -- rollouts to compare
--   min_gain: DOUBLE = 0 -- the pass rate must rise by more than this
--   errors: DOUBLE = 0 -- standard errors that the gain must exceed min_gain by
-- columns: policy, parent, verifier, prompts, rate_before, rate_after, gain, standard_error
SELECT *
FROM pass_rate_changes($policy, $before, $verifier, $purpose)
WHERE gain - $errors * coalesce(standard_error, 0) <= $min_gain
ORDER BY policy, verifier
