-- question: how many verdicts of each verifier version does the store hold?
-- grain: one row per verifier and version
-- params: none
-- columns: verifier, verifier_version, verdicts
SELECT verifier, verifier_version, count(*) AS verdicts
FROM rewards
GROUP BY ALL
ORDER BY ALL
