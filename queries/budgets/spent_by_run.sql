-- question: which run spent what?
-- grain: one row per run that spent anything
-- params:
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
-- columns: run_id, kind, stage, status, labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops, label_visits
-- Runs that score or verify serve many stages: theirs is null.
SELECT
    s.name AS run_id, r.kind, r.stage, r.status, s.labels, s.graded_labels, s.generated_tokens,
    s.scored_tokens, s.trained_tokens, s.updates, s.flops, s.label_visits
FROM spent_in($purpose) AS s
LEFT JOIN runs AS r ON s.name = r.run_id
WHERE s.scope = 'run'
ORDER BY r.started_at, run_id
