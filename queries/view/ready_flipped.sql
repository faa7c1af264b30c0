-- question: which eval rollouts are right where the policy's nearest evaluated ancestor was wrong, or the other way round?
-- grain: one row per rollout of the later policy, held against the same sample of the same prompt
-- params: none
-- columns: rollout_id
WITH RECURSIVE
line AS (
    SELECT policy_id, parent_policy_id AS ancestor_id, 1 AS steps
    FROM policies
    WHERE parent_policy_id IS NOT NULL
    UNION ALL
    SELECT l.policy_id, p.parent_policy_id, l.steps + 1
    FROM line AS l
    INNER JOIN policies AS p ON l.ancestor_id = p.policy_id
    WHERE p.parent_policy_id IS NOT NULL AND l.steps < 10000
),
judged AS MATERIALIZED (
    SELECT
        rollout_id, policy_id, prompt_id, sample_index, is_correct(outcome, reward) AS correct
    FROM graded_rollouts
    WHERE purpose = 'eval' AND is_correct(outcome, reward) IS NOT NULL
),
nearest AS (
    SELECT policy_id, arg_min(ancestor_id, steps) AS ancestor_id
    FROM line
    WHERE ancestor_id IN (SELECT policy_id FROM judged)
    GROUP BY policy_id
)
SELECT DISTINCT j.rollout_id
FROM judged AS j
INNER JOIN nearest AS n ON j.policy_id = n.policy_id
INNER JOIN judged AS b
    ON n.ancestor_id = b.policy_id AND j.prompt_id = b.prompt_id
    AND j.sample_index = b.sample_index
WHERE j.correct <> b.correct
