-- question: which rollouts belong to a group whose rewards are all the same, so that GRPO learns nothing?
-- grain: one row per rollout
-- params: none
-- columns: rollout_id
SELECT rollout_id
FROM rollouts
WHERE group_id IN (
    SELECT group_id
    FROM graded_rollouts
    WHERE purpose = 'train' AND reward IS NOT NULL
    GROUP BY group_id
    HAVING count(*) > 1 AND min(reward) = max(reward)
)
