-- question: which verdicts stand on the rollouts of each locked dataset?
-- grain: one row per dataset, verifier, version and the run that verified
-- columns: dataset_id, verifier, verifier_version, run_id, rows
SELECT d.dataset_id, w.verifier, w.verifier_version, w.run_id, count(*) AS rows
FROM raw.dataset_rows AS d
INNER JOIN raw.rewards AS w USING (rollout_id)
GROUP BY ALL
