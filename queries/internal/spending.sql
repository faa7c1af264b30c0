-- question: what was spent of each metric, in all, by role, by stage and by run?
-- grain: one row per scope and name
-- params:
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
-- columns: scope, name, labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops, label_visits
SELECT
    scope, name, labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates,
    flops, label_visits
FROM spent_in($purpose)
ORDER BY list_position(['experiment', 'role', 'stage', 'run'], scope), name
