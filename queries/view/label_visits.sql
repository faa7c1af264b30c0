-- question: how often did updates of each stage use a label?
-- grain: one row per stage that trained
-- params: none
-- columns: stage, visits
SELECT r.stage, sum(u.label_visits)::BIGINT AS visits
FROM updates AS u
LEFT JOIN runs AS r ON u.run_id = r.run_id
GROUP BY r.stage
ORDER BY r.stage
