-- question: what does each verifier's newest version say of each rollout?
-- grain: one row a rollout and verifier
-- columns: rollout_id, verifier, verifier_version, reward, outcome, extracted, detail, seconds, run_id, created_at
SELECT *
FROM raw.rewards
QUALIFY row_number() OVER (
    PARTITION BY rollout_id, verifier ORDER BY created_at DESC, verifier_version DESC
) = 1
