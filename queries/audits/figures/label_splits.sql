-- skipped when: no dataset uses labels
SELECT count(*) AS examined, stage, count(DISTINCT prompt_id) AS labels
FROM labels_by_stage($datasets)
GROUP BY stage
ORDER BY stage
