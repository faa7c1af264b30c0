-- question: which views are there, with which columns?
-- grain: one row per column, views by name
-- params: none
-- columns: name, column, type
SELECT table_name AS name, column_name AS "column", data_type AS type
FROM information_schema.columns
WHERE table_schema = 'main'
ORDER BY table_name, ordinal_position
