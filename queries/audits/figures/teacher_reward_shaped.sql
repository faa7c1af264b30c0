-- skipped when: no teacher and its parent were graded on the same prompts
SELECT prompts AS examined, * EXCLUDE (prompts)
FROM pass_rate_changes($policy, $before, $verifier, $purpose)
ORDER BY policy, verifier
