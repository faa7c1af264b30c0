-- question: which of the chosen rollouts stand at some place of the table?
-- grain: one row per rollout, in the table's order; ties by id, so that pages never overlap
-- params:
--   sort: newest|oldest|prompt|longest|shortest|best|worst -- what the table is sorted by
--   n_rows: COUNT -- rows
--   skipped: BIGINT -- rows before them
-- columns: every column of rollout_list, then place
-- Sorted without the wide columns, which only the rows that are shown need.
WITH keys AS (
    SELECT
        place, rollout_id,
        CASE $sort
            WHEN 'newest' THEN -epoch_us(created_at)
            WHEN 'oldest' THEN epoch_us(created_at)
            WHEN 'longest' THEN -response_tokens
            WHEN 'shortest' THEN response_tokens
            WHEN 'best' THEN -reward
            WHEN 'worst' THEN reward
        END AS figure,
        CASE WHEN $sort = 'prompt' THEN prompt_id END AS prompt
    FROM chosen_rows
),
shown AS (
    SELECT place, figure, prompt
    FROM keys
    ORDER BY figure NULLS LAST, prompt, rollout_id
    LIMIT $n_rows
    OFFSET $skipped
)
SELECT r.*
FROM chosen_rows AS r
INNER JOIN shown AS s ON r.place = s.place
ORDER BY s.figure NULLS LAST, s.prompt, r.rollout_id
