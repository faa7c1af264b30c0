-- question: who spent what: the teacher or the student?
-- grain: one row per role
-- params:
--   purpose: VARCHAR = train -- train, eval or any
-- columns: role, labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops
SELECT
    nullif(name, '') AS role, labels, graded_labels, generated_tokens, scored_tokens,
    trained_tokens, updates, flops
FROM spent_in($purpose)
WHERE scope = 'role'
ORDER BY role
