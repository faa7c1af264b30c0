-- question: which verifiers have judged anything?
-- grain: one row per verifier
-- params: none
-- columns: verifier
SELECT DISTINCT verifier
FROM raw.rewards
ORDER BY verifier
