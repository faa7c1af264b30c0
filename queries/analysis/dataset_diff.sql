-- question: how do two locked datasets differ in rows, prompts, tokens and labels?
-- grain: one row per measure
-- params:
--   first: DATASET -- name (the newest of it) or id
--   second: DATASET -- name (the newest of it) or id
-- columns: measure, first, second, shared
-- Shared: `rows in place` counts rows that hold the same rollout at the same place and update, `rows`
-- uses of the same rollout anywhere, the others distinct ids; tokens are those of shared rows.
WITH chosen AS MATERIALIZED (
    SELECT 1 AS side, dataset_named($first) AS dataset_id
    UNION ALL
    SELECT 2, dataset_named($second)
),
uses AS MATERIALIZED (
    SELECT
        c.side, d.row, d.update, d.rollout_id, d.prompt_id, d.labelled,
        r.prompt_tokens, r.response_tokens,
        row_number() OVER (PARTITION BY c.side, d.rollout_id ORDER BY d.row) AS use
    FROM chosen AS c
    INNER JOIN dataset_rows AS d USING (dataset_id)
    INNER JOIN rollouts AS r USING (rollout_id)
),
both_uses AS MATERIALIZED (
    SELECT a.rollout_id, a.prompt_tokens, a.response_tokens
    FROM (FROM uses WHERE side = 1) AS a
    INNER JOIN (FROM uses WHERE side = 2) AS b USING (rollout_id, use)
),
in_place AS (
    SELECT count(*) AS n
    FROM (FROM uses WHERE side = 1) AS a
    INNER JOIN (FROM uses WHERE side = 2) AS b USING (row, update, rollout_id)
),
prompts AS (
    SELECT prompt_id, bool_or(side = 1) AS one, bool_or(side = 2) AS two
    FROM uses
    GROUP BY prompt_id
),
labels AS (
    SELECT l.prompt_id, bool_or(c.side = 1) AS one, bool_or(c.side = 2) AS two
    FROM dataset_labels AS l
    INNER JOIN chosen AS c USING (dataset_id)
    GROUP BY l.prompt_id
),
sides AS (
    SELECT
        side,
        count(*) AS rows,
        max(update) AS updates,
        count(DISTINCT rollout_id) AS rollouts,
        sum(prompt_tokens) AS prompt_tokens,
        sum(response_tokens) AS response_tokens
    FROM uses
    GROUP BY side
),
one AS (SELECT * FROM sides WHERE side = 1),
two AS (SELECT * FROM sides WHERE side = 2),
measures AS (
    SELECT 1 AS place, 'updates' AS measure, one.updates AS first, two.updates AS second, NULL AS shared
    FROM one, two
    UNION ALL
    SELECT 2, 'rows', one.rows, two.rows, (SELECT count(*) FROM both_uses)
    FROM one, two
    UNION ALL
    SELECT 3, 'rows in place', one.rows, two.rows, (SELECT n FROM in_place)
    FROM one, two
    UNION ALL
    SELECT 4, 'rollouts', one.rollouts, two.rollouts, (SELECT count(DISTINCT rollout_id) FROM both_uses)
    FROM one, two
    UNION ALL
    SELECT
        5, 'prompts',
        count(*) FILTER (one), count(*) FILTER (two), count(*) FILTER (one AND two)
    FROM prompts
    UNION ALL
    SELECT
        6, 'labels',
        count(*) FILTER (one), count(*) FILTER (two), count(*) FILTER (one AND two)
    FROM labels
    UNION ALL
    SELECT
        7, 'prompt_tokens', one.prompt_tokens, two.prompt_tokens,
        (SELECT coalesce(sum(prompt_tokens), 0) FROM both_uses)
    FROM one, two
    UNION ALL
    SELECT
        8, 'response_tokens', one.response_tokens, two.response_tokens,
        (SELECT coalesce(sum(response_tokens), 0) FROM both_uses)
    FROM one, two
)
SELECT measure, first::BIGINT AS first, second::BIGINT AS second, shared::BIGINT AS shared
FROM measures
ORDER BY place
