-- question: how many rollouts has each group of imported ones?
-- grain: one row per group
-- columns: group_id, size
SELECT group_id, max(sample_index) + 1 AS size
FROM rollouts
WHERE origin = 'imported'
GROUP BY group_id
