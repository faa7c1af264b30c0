-- question: does any locked dataset stand on verdicts that were withdrawn?
-- grain: one row per dataset and withdrawn version of the verifier whose rewards it takes
-- params:
--   datasets: VARCHAR = NULL -- datasets to look at: names comma-separated; NULL: all
-- columns: dataset, verifier, verifier_version, rows, withdrawn, withdrawn_at
SELECT dataset, verifier, verifier_version, rows, withdrawn, withdrawn_at
FROM datasets_on_verdicts($datasets)
WHERE withdrawn IS NOT NULL
ORDER BY dataset, verifier, verifier_version;

-- figures: verdicts that locked datasets stand on, by dataset and verifier version
-- skipped when: no dataset takes rewards
SELECT
    rows AS examined, dataset, verifier, verifier_version, withdrawn IS NOT NULL AS withdrawn
FROM datasets_on_verdicts($datasets)
ORDER BY dataset, verifier, verifier_version
