-- question: which stored bridge rollouts, replayed, match a Stage 3 dataset and spend no label?
-- grain: one row per row of the treatment, with the same `row` and `update`
-- needs: scorer_policy_id, support, k, response_logprobs
-- labels: none
-- policy: off
-- rollouts: any
-- control: treatment
-- params:
--   treatment: VARCHAR -- the dataset to match: the newest of that name, or an id
--   bridge: VARCHAR = opd,warmup -- datasets whose rollouts to draw from: kinds, names or ids, comma-separated
--   role: any|teacher|student = any -- only rollouts of that role
--   policy: POLICY = any -- only rollouts of that policy
--   k: BIGINT = 0 -- entries per token; 0 takes the largest stored
--   passes: COUNT = 1 -- how often a rollout may be used
--   tolerance: DOUBLE = 0.02 -- largest relative difference of response tokens, in each update and in all
-- columns: row, update, rollout_id, scorer_policy_id, support, k, labelled, treatment_tokens
-- Every row of the treatment gets a rollout of nearly its length. Both sides are sorted by length;
-- a row's natural slot is where its length stands among the rollouts (between two lengths, chance
-- decides, so that sums are kept); slots that collide are moved apart by as few places as possible
-- (isotonic regression of the ranks in the maximum norm: the mean of a running maximum from the left
-- and a running minimum from the right). Where lengths run out, an update misses tokens: the next
-- round asks each of its rows for its share of them. The round whose worst update is best counts.
-- Whoever builds checks the tolerance. Top-k: scorer and support are those of the bridge's lock.
WITH RECURSIVE treated AS (
    SELECT dataset_id
    FROM datasets
    WHERE $treatment IN (name, dataset_id)
    ORDER BY created_at DESC, dataset_id
    LIMIT 1
),
targets AS MATERIALIZED (
    SELECT
        d.row,
        d.update,
        r.response_tokens AS wanted,
        md5_number(concat($seed, '/', d.row))::DOUBLE / 2e0 ** 128 AS chance
    FROM dataset_rows AS d
    INNER JOIN rollouts AS r USING (rollout_id)
    WHERE d.dataset_id IN (FROM treated)
),
bridges AS (
    SELECT
        dataset_id,
        created_at,
        coalesce(lock ->> '$.params.support', 'own') AS support,
        lock ->> '$.scorers[*]' AS scorers
    FROM datasets
    WHERE
        dataset_id NOT IN (FROM treated)
        AND list_has_any(
            string_split(replace($bridge, ' ', ''), ','),
            [name, dataset_id, coalesce(lock ->> '$.kind', query)]
        )
),
candidates AS (
    SELECT r.rollout_id, r.response_tokens, t.scorer_policy_id, t.support, t.k
    FROM (
        SELECT DISTINCT d.rollout_id, b.dataset_id, b.created_at, b.support, b.scorers
        FROM dataset_rows AS d
        INNER JOIN bridges AS b USING (dataset_id)
    ) AS b
    INNER JOIN rollouts AS r USING (rollout_id)
    INNER JOIN topk AS t ON b.rollout_id = t.rollout_id AND b.support = t.support
    WHERE
        r.response_tokens > 0
        AND (len(b.scorers) = 0 OR list_contains(b.scorers, t.scorer_policy_id))
        AND $policy IN ('any', r.policy_id)
        AND $role IN ('any', r.role)
        AND ($k = 0 OR t.k = $k)
    QUALIFY row_number() OVER (
        PARTITION BY r.rollout_id
        ORDER BY b.created_at DESC, b.dataset_id, t.k DESC, t.scorer_policy_id
    ) = 1
),
slots AS MATERIALIZED (
    SELECT
        *,
        row_number() OVER (
            ORDER BY response_tokens, md5(concat($seed, '/', pass, '/', rollout_id)), rollout_id, pass
        ) AS slot
    FROM candidates
    CROSS JOIN range($passes) AS passes (pass)
),
lengths AS MATERIALIZED (
    SELECT response_tokens AS tokens, min(slot) AS first_slot, count(*) AS n
    FROM slots
    GROUP BY response_tokens
),
steps AS MATERIALIZED (
    SELECT i.step, b AS below, coalesce(a, b) AS above
    FROM (
        SELECT unnest(range(min(tokens), max(tokens) + 1)) AS step
        FROM lengths
    ) AS i
    ASOF INNER JOIN lengths AS b ON i.step >= b.tokens
    ASOF LEFT JOIN lengths AS a ON i.step < a.tokens
),
ends AS MATERIALIZED (
    SELECT min(tokens) AS shortest, max(tokens) AS longest
    FROM lengths
),
spare AS MATERIALIZED (
    SELECT (SELECT count(*) FROM slots) - (SELECT count(*) FROM targets) AS n
),
rounds AS (
    SELECT 0 AS round, row, update, wanted, chance, wanted::DOUBLE AS asked, 0::BIGINT AS slot, 0 AS got
    FROM targets
    UNION ALL
    SELECT
        p.round + 1, p.row, p.update, p.wanted, p.chance,
        p.asked + avg(p.wanted - s.response_tokens) OVER (PARTITION BY p.update),
        p.slot, s.response_tokens
    FROM (
        SELECT
            *,
            place + least((SELECT n FROM spare), greatest(0, (
                max(natural_slot - place) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING)
                + min(natural_slot - place) OVER (
                    ORDER BY place ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
                )
            ) // 2)) AS slot
        FROM (
            SELECT
                * EXCLUDE slot,
                row_number() OVER (ORDER BY near.tokens, asked, chance, row) AS place,
                near.first_slot + (
                    (row_number() OVER (PARTITION BY near.tokens ORDER BY asked, chance, row) * 2 - 1)
                    * near.n // (2 * count(*) OVER (PARTITION BY near.tokens))
                ) AS natural_slot
            FROM (
                SELECT
                    r.*,
                    CASE
                        WHEN r.asked - s.below.tokens > r.chance * (s.above.tokens - s.below.tokens)
                            THEN s.above
                        ELSE s.below
                    END AS near
                FROM rounds AS r
                CROSS JOIN ends AS e
                INNER JOIN steps AS s
                    ON s.step = greatest(e.shortest, least(e.longest, floor(r.asked)::BIGINT))
                WHERE r.round < 4
            )
        )
    ) AS p
    INNER JOIN slots AS s ON p.slot = s.slot
),
best AS (
    SELECT round
    FROM (
        SELECT round, update, abs(sum(got - wanted)) / sum(wanted) AS missed
        FROM rounds
        WHERE round > 0
        GROUP BY round, update
    )
    GROUP BY round
    ORDER BY max(missed), round
    LIMIT 1
)
SELECT
    m.row,
    m.update,
    s.rollout_id,
    s.scorer_policy_id,
    s.support,
    s.k,
    false AS labelled,
    m.wanted AS treatment_tokens
FROM rounds AS m
INNER JOIN slots AS s USING (slot)
WHERE m.round IN (FROM best)
ORDER BY m.row
