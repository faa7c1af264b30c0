-- skipped when: no dataset takes rewards
SELECT
    rows AS examined, dataset, verifier, verifier_version, withdrawn IS NOT NULL AS withdrawn
FROM datasets_on_verdicts($datasets)
ORDER BY dataset, verifier, verifier_version
