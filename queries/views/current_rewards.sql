-- question: what does each verifier's newest version say of each rollout?
-- grain: one row per rollout and verifier
-- columns: every column of rewards
-- The verdicts that count, see view verdicts. reward is null where nothing was judged.
SELECT * EXCLUDE (withdrawn, counts)
FROM verdicts
WHERE counts
