-- question: does a connection have an SQL function of this name?
-- grain: one row per form of the function
-- params:
--   name: VARCHAR -- the function
-- columns: function_name
SELECT function_name
FROM duckdb_functions()
WHERE function_name = $name
