-- Scored rollouts that a control of the dataset `treatment` may train on again: those of the named
-- datasets (kinds, names or ids, comma-separated), or, where `named` is NULL, of the datasets that
-- the treatment's start policy was trained on: OPD where `on_policy` is true, else warmup.
-- `on_support`: only scores on that support; NULL: that of the newest dataset, so that one objective
-- fits every row. of_role, of_policy, entries (k): NULL is no filter.
-- Scorer and support are those of the dataset's lock. `labelled` says whether a reward had chosen the
-- rollout there; `earlier_uses` counts the rows in which the treatment's line has trained on it.
-- rollout_id, response_tokens, scorer_policy_id, support, k, labelled, earlier_uses.
CREATE MACRO stored_candidates(
    treatment, named, on_policy, on_support, of_role, of_policy, entries
) AS TABLE
    WITH line AS (
        SELECT dataset_id FROM datasets_behind(start_of(dataset_named(treatment)))
    ),
    chosen AS (
        SELECT
            d.dataset_id,
            d.created_at,
            coalesce(d.lock ->> '$.params.support', 'own') AS support,
            d.lock ->> '$.scorers[*]' AS scorers
        FROM raw.datasets AS d
        INNER JOIN dataset_traits AS t USING (dataset_id)
        WHERE
            d.dataset_id <> dataset_named(treatment)
            AND CASE
                WHEN named IS NOT NULL
                    THEN list_has_any(
                        string_split(replace(named, ' ', ''), ','), [d.name, d.dataset_id, t.kind]
                    )
                ELSE
                    t.has_topk
                    AND t.control_of IS NULL
                    AND t.on_policy = on_policy
                    AND d.dataset_id IN (SELECT dataset_id FROM line)
            END
    ),
    supported AS (
        SELECT *
        FROM chosen
        WHERE support = coalesce(
            on_support, (SELECT arg_max(support, (created_at, dataset_id)) FROM chosen)
        )
    ),
    used AS (
        SELECT
            r.rollout_id, s.dataset_id, s.created_at, s.support, s.scorers,
            bool_or(r.labelled) OVER (PARTITION BY r.rollout_id) AS labelled
        FROM raw.dataset_rows AS r
        INNER JOIN supported AS s USING (dataset_id)
    ),
    uses AS (
        SELECT rollout_id, count(*) AS earlier_uses
        FROM raw.dataset_rows
        INNER JOIN line USING (dataset_id)
        GROUP BY rollout_id
    )
    SELECT
        r.rollout_id, r.response_tokens, t.scorer_policy_id, t.support, t.k, u.labelled,
        coalesce(e.earlier_uses, 0) AS earlier_uses
    FROM used AS u
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    INNER JOIN raw.topk AS t ON u.rollout_id = t.rollout_id AND u.support = t.support
    LEFT JOIN uses AS e ON u.rollout_id = e.rollout_id
    WHERE
        r.response_tokens > 0
        AND (len(u.scorers) = 0 OR list_contains(u.scorers, t.scorer_policy_id))
        AND (of_policy IS NULL OR r.policy_id = of_policy)
        AND (of_role IS NULL OR r.role = of_role)
        AND (entries IS NULL OR t.k = entries)
    QUALIFY row_number() OVER (
        PARTITION BY r.rollout_id
        ORDER BY u.created_at DESC, u.dataset_id, t.k DESC, t.scorer_policy_id
    ) = 1
