-- question: which of the chosen rollouts stand at some place of the table?
-- grain: one row per rollout, in the table's order; ties by id, so that pages never overlap
-- params:
--   sort: newest|oldest|prompt|longest|shortest|best|worst -- what the table is sorted by
--   n_rows: COUNT -- rows
--   skipped: BIGINT -- rows before them
-- columns: every column of rollout_list
SELECT *
FROM chosen_rows
ORDER BY
    CASE $sort
        WHEN 'newest' THEN -epoch_us(created_at)
        WHEN 'oldest' THEN epoch_us(created_at)
        WHEN 'longest' THEN -response_tokens
        WHEN 'shortest' THEN response_tokens
        WHEN 'best' THEN -reward
        WHEN 'worst' THEN reward
    END NULLS LAST,
    CASE WHEN $sort = 'prompt' THEN prompt_id END,
    rollout_id
LIMIT $n_rows
OFFSET $skipped
