-- question: what does each verifier's newest version say of each rollout?
-- grain: one row per rollout and verifier
-- columns: rollout_id, verifier, verifier_version, reward, outcome, extracted, detail, seconds, run_id, created_at
-- A verifier of one version has one verdict a rollout, so only others need sorting.
WITH several AS MATERIALIZED (
    SELECT verifier
    FROM raw.rewards
    GROUP BY verifier
    HAVING min(verifier_version) < max(verifier_version)
)
SELECT *
FROM raw.rewards
WHERE verifier NOT IN (FROM several)
UNION ALL
SELECT *
FROM raw.rewards
WHERE verifier IN (FROM several)
QUALIFY row_number() OVER (
    PARTITION BY rollout_id, verifier ORDER BY created_at DESC, verifier_version DESC
) = 1
