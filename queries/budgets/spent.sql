-- question: what was spent in all: labels, tokens generated, scored and trained, updates?
-- grain: one row, over every run
-- params:
--   purpose: train|eval|NULL = train -- rollouts that count; NULL: both
-- columns: labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops, label_visits
SELECT
    labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops, label_visits
FROM spent_in($purpose)
WHERE scope = 'experiment'
