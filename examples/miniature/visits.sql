-- question: how often did each stage learn from a labelled prompt?
-- grain: one row per stage
-- params: none
-- columns: stage, visits
-- A visit is one prompt in one locked dataset, however many of its rollouts are there.
SELECT r.stage, count(DISTINCT concat(c.dataset_id, '/', c.prompt_id)) AS visits
FROM consumed_rows AS c
INNER JOIN runs AS r USING (run_id)
WHERE c.labelled
GROUP BY r.stage
ORDER BY r.stage
