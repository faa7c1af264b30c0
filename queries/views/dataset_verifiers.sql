-- question: which verdicts stand on the rollouts of each locked dataset?
-- grain: one row per dataset, verifier, version and the run that verified
-- columns: dataset_id, verifier, verifier_version, run_id, rows, withdrawn
-- withdrawn: why the version's verdicts no longer count; null where they do.
SELECT
    d.dataset_id, w.verifier, w.verifier_version, w.run_id,
    count(DISTINCT d.row) AS rows, any_value(x.reason) AS withdrawn
FROM raw.dataset_rows AS d
INNER JOIN raw.rewards AS w USING (rollout_id)
LEFT JOIN raw.withdrawals AS x USING (verifier, verifier_version)
GROUP BY d.dataset_id, w.verifier, w.verifier_version, w.run_id
