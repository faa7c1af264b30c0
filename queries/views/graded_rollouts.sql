-- question: which rollouts were right?
-- grain: one row per rollout, whatever verifiers ran
-- columns: every column of rollouts, then policy, split, answer, verifier, reward, outcome, extracted
-- The verdict is math-verify's where it has one that counts, else that of the verifier whose name
-- comes first; view current_rewards has every verifier's. verifier and outcome are null where
-- nothing graded the rollout, reward is null where nothing judged it.
WITH chosen AS (
    SELECT rollout_id, verifier, reward, outcome, extracted
    FROM current_rewards
    WHERE verifier = 'math-verify'
    UNION ALL
    SELECT rollout_id, verifier, reward, outcome, extracted
    FROM current_rewards
    ANTI JOIN (
        SELECT w.rollout_id
        FROM raw.rewards AS w
        ANTI JOIN raw.withdrawals AS x USING (verifier, verifier_version)
        WHERE w.verifier = 'math-verify'
    ) AS preferred USING (rollout_id)
    WHERE verifier <> 'math-verify'
    QUALIFY row_number() OVER (PARTITION BY rollout_id ORDER BY verifier) = 1
)
SELECT
    r.*,
    o.name AS policy,
    p.split,
    p.answer,
    w.verifier,
    w.reward,
    w.outcome,
    w.extracted
FROM raw.rollouts AS r
LEFT JOIN raw.policies AS o USING (policy_id)
LEFT JOIN raw.prompts AS p USING (prompt_id)
LEFT JOIN chosen AS w USING (rollout_id)
