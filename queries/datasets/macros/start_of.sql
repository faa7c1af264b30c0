-- The policy that training on a dataset starts from: the one that a run on it started from, else the
-- one that the lock of an on-policy dataset names. Null where nothing is known.
CREATE MACRO start_of(of_dataset) AS (
    SELECT coalesce(
        (
            SELECT min(t.start_policy_id)
            FROM training_runs AS t
            INNER JOIN raw.updates AS u USING (run_id)
            WHERE u.dataset_id = of_dataset
        ),
        min(
            CASE WHEN k.rollouts = 'own'
                THEN coalesce(d.lock ->> '$.params.student', d.lock ->> '$.params.policy')
            END
        )
    )
    FROM raw.datasets AS d
    INNER JOIN dataset_traits AS k USING (dataset_id)
    WHERE d.dataset_id = of_dataset
)
