-- question: by which names and ids can locked datasets be asked for?
-- grain: one row per name or id
-- params: none
-- columns: name
SELECT name FROM datasets
UNION
SELECT dataset_id FROM datasets
ORDER BY name
