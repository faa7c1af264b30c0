-- question: does any locked dataset stand on verdicts that were withdrawn?
-- grain: one row per dataset and withdrawn version of the verifier whose rewards it takes
-- params:
--   datasets: VARCHAR = all -- datasets to look at: names comma-separated, or all
-- columns: dataset, verifier, verifier_version, rows, withdrawn, withdrawn_at
SELECT dataset, verifier, verifier_version, rows, withdrawn, withdrawn_at
FROM datasets_on_verdicts($datasets)
WHERE withdrawn IS NOT NULL
ORDER BY dataset, verifier, verifier_version
