-- question: which stage spent what?
-- grain: one row per stage; null for runs without a stage
-- params:
--   purpose: train|eval|NULL = train -- rollouts that count; NULL: both
-- columns: stage, labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops, label_visits
SELECT
    nullif(name, '') AS stage, labels, graded_labels, generated_tokens, scored_tokens,
    trained_tokens, updates, flops, label_visits
FROM spent_in($purpose)
WHERE scope = 'stage'
ORDER BY stage
