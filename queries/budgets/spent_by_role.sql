-- question: who spent what: the teacher or the student?
-- grain: one row per role
-- params:
--   purpose: train|eval|NULL = train -- rollouts that count; NULL: both
-- columns: role, labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops, label_visits
SELECT
    nullif(name, '') AS role, labels, graded_labels, generated_tokens, scored_tokens,
    trained_tokens, updates, flops, label_visits
FROM spent_in($purpose)
WHERE scope = 'role'
ORDER BY role
