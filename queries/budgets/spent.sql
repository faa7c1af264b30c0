-- question: what was spent in all: labels, tokens generated, scored and trained, updates?
-- grain: one row, over every run
-- params:
--   purpose: VARCHAR = train -- train, eval or any
-- columns: labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops
SELECT
    labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops
FROM spent_in($purpose)
WHERE scope = 'experiment'
