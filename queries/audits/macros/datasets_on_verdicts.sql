-- Locked datasets whose query took rewards of a verifier, by the version of it that had graded their
-- rollouts when they were built. `withdrawn` is the reason why the version no longer counts, or null.
-- dataset, verifier, verifier_version, rows, withdrawn, withdrawn_at.
CREATE MACRO datasets_on_verdicts(wanted) AS TABLE
    SELECT
        a.name AS dataset, w.verifier, w.verifier_version,
        count(DISTINCT d.row) AS rows,
        any_value(x.reason) AS withdrawn,
        any_value(x.created_at) AS withdrawn_at
    FROM audited_datasets(wanted) AS a
    INNER JOIN raw.dataset_rows AS d USING (dataset_id)
    INNER JOIN raw.rewards AS w
        ON d.rollout_id = w.rollout_id
        AND w.verifier = (a.lock ->> '$.params.verifier')
        AND w.created_at <= a.created_at
    LEFT JOIN raw.withdrawals AS x
        ON w.verifier = x.verifier AND w.verifier_version = x.verifier_version
    GROUP BY a.dataset_id, a.name, w.verifier, w.verifier_version
