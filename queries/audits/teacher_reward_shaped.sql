-- question: did reinforcement learning raise the teacher's pass rate (C1)?
-- grain: one row per policy and verifier whose pass rate did not rise over its parent's
-- params:
--   policy: POLICY = NULL -- the policy; NULL: all that sampled as a teacher and have a parent
--   before: POLICY = NULL -- the policy to compare with; NULL: its parent
--   verifier: VARCHAR = NULL -- whose rewards count; NULL: every verifier's
--   purpose: train|eval = NULL -- rollouts to compare; NULL: both
--   min_gain: DOUBLE = 0 -- the pass rate must rise by more than this
--   errors: DOUBLE = 0 -- standard errors that the gain must exceed min_gain by
-- columns: policy, parent, verifier, prompts, rate_before, rate_after, gain, standard_error
SELECT *
FROM pass_rate_changes($policy, $before, $verifier, $purpose)
WHERE gain - $errors * coalesce(standard_error, 0) <= $min_gain
ORDER BY policy, verifier;

-- figures: prompts and pass rates, by policy and verifier
-- skipped when: no teacher and its parent were graded on the same prompts
SELECT prompts AS examined, * EXCLUDE (prompts)
FROM pass_rate_changes($policy, $before, $verifier, $purpose)
ORDER BY policy, verifier
