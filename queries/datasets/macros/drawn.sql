-- Rollouts in training order: at most `per_prompt` of a prompt, each used once in each of `passes`
-- passes, cut into updates of `per_update` rows, until `most_updates` updates or the one that reaches
-- `tokens_wanted` response tokens. NULL: no such limit.
-- `source` names a CTE or table with rollout_id, prompt_id, response_tokens and weight. A weighted
-- draw without replacement: place each rollout by -ln(u) / weight with u from a hash of seed and id,
-- and take the first (Efraimidis and Spirakis 2006). What is drawn is then shuffled.
-- row, update, then the columns of `source`.
CREATE MACRO drawn(
    source, per_prompt, passes, per_update, most_updates, tokens_wanted, order_seed
) AS TABLE
    WITH kept AS (
        SELECT *
        FROM query_table(source)
        WHERE weight > 0
        QUALIFY
            per_prompt IS NULL
            OR row_number() OVER (
                PARTITION BY prompt_id ORDER BY md5(concat(order_seed, '/', rollout_id)), rollout_id
            ) <= per_prompt
    ),
    uses AS (
        SELECT
            *,
            md5_number(concat(order_seed, '/', pass, '/', rollout_id)) AS shuffled,
            -ln(shuffled::DOUBLE / 2e0 ** 128) / weight AS key
        FROM kept
        CROSS JOIN range(passes) AS _ (pass)
    ),
    placed AS (
        SELECT
            *,
            row_number() OVER in_order - 1 AS place,
            sum(response_tokens) OVER in_order - response_tokens AS tokens_before
        FROM uses
        WINDOW in_order AS (ORDER BY pass, key, rollout_id ROWS UNBOUNDED PRECEDING)
    ),
    taken AS (
        SELECT *
        FROM placed
        WHERE most_updates IS NULL OR place < most_updates * per_update
        QUALIFY
            tokens_wanted IS NULL
            OR min(tokens_before) OVER (PARTITION BY place // per_update) < tokens_wanted
    ),
    numbered AS (
        SELECT row_number() OVER (ORDER BY pass, shuffled DESC, rollout_id) - 1 AS row, *
        FROM taken
    )
    SELECT
        row, row // per_update + 1 AS update,
        * EXCLUDE (row, pass, shuffled, key, place, tokens_before, weight)
    FROM numbered
