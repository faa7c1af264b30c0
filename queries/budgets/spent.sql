-- question: what was spent in all: labels, tokens generated, scored and trained, updates?
-- grain: one row, over every run
-- params:
--   purpose: VARCHAR = train -- train, eval or any
-- columns: labels, generated_tokens, scored_tokens, trained_tokens, updates, flops
SELECT
    (SELECT count(DISTINCT prompt_id) FROM consumed_rows WHERE labelled) AS labels,
    coalesce(sum(generated_tokens), 0)::BIGINT AS generated_tokens,
    coalesce(sum(scored_tokens), 0)::BIGINT AS scored_tokens,
    coalesce(sum(trained_tokens), 0)::BIGINT AS trained_tokens,
    coalesce(sum(updates), 0)::BIGINT AS updates,
    coalesce(sum(flops), 0) AS flops
FROM spent
WHERE $purpose IN ('any', purpose)
