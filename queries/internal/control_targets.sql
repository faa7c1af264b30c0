-- question: which rows must a control match, and how long are they?
-- grain: one row per row of the treatment
-- params:
--   treatment: VARCHAR -- the dataset to match: the newest of that name, or an id
--   seed: BIGINT -- decides `chance`
-- columns: row, update, response_tokens, chance
-- chance: between 0 and 1, the same on any machine.
SELECT
    d.row,
    d.update,
    r.response_tokens,
    md5_number(concat($seed, '/', d.row))::DOUBLE / 2e0 ** 128 AS chance
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
WHERE d.dataset_id = dataset_named($treatment)
ORDER BY d.row
