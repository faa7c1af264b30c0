-- question: which stages have runs?
-- grain: one row per stage
-- params: none
-- columns: name
SELECT DISTINCT stage AS name
FROM runs
WHERE stage IS NOT NULL
ORDER BY name
