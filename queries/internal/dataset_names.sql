-- question: which names do locked datasets have?
-- grain: one row per name
-- params: none
-- columns: name
SELECT DISTINCT name
FROM datasets
ORDER BY name
