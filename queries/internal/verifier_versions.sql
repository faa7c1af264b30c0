-- question: which verifier versions have judged how much, and which were withdrawn?
-- grain: one row per verifier and version
-- params: none
-- columns: verifier, version, verdicts, count, not_judged, withdrawn
SELECT
    v.verifier,
    v.verifier_version AS version,
    count(*) AS verdicts,
    count(*) FILTER (v.counts) AS count,
    count(*) FILTER (v.outcome IN ('timeout', 'error')) AS not_judged,
    any_value(w.reason) AS withdrawn
FROM verdicts AS v
LEFT JOIN withdrawals AS w USING (verifier, verifier_version)
GROUP BY v.verifier, v.verifier_version
ORDER BY v.verifier, min(v.created_at)
