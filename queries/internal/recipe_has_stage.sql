-- question: does a recipe have a stage of this name?
-- grain: one row
-- params:
--   stage: VARCHAR -- the name
-- columns: has
SELECT count(*) > 0 AS has
FROM runs
WHERE stage = $stage AND recipe IS NOT NULL
