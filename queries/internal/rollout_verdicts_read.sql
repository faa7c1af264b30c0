-- question: what has every verifier said of one rollout, and what did it read?
-- grain: one row per verifier, version and attempt, those that count first
-- params:
--   rollout: VARCHAR -- rollout_id
-- columns: verifier, verifier_version, attempt, reward, outcome, extracted, detail, withdrawn, counts
SELECT
    verifier, verifier_version, attempt, reward, outcome, extracted, detail, withdrawn, counts
FROM verdicts
WHERE rollout_id = $rollout
ORDER BY counts DESC, verifier, verifier_version DESC, attempt DESC
