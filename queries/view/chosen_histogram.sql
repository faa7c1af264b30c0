-- question: how is a whole number spread over the chosen rollouts?
-- grain: one row per range that holds any, of at most `most` ranges of equal width
-- params:
--   number: response_tokens|round -- which column
--   most: COUNT -- ranges at most
-- columns: low, width, last, count
WITH figures AS (
    SELECT CASE $number WHEN 'round' THEN round ELSE response_tokens END AS figure
    FROM chosen_rows
),
ends AS (
    SELECT
        min(figure) AS low, max(figure) AS last,
        greatest(1, ceil((max(figure) + 1 - min(figure)) / $most))::BIGINT AS width
    FROM figures
)
SELECT
    any_value(e.low + (f.figure - e.low) // e.width * e.width) AS low, any_value(e.width) AS width,
    any_value(e.last) AS last, count(*) AS count
FROM figures AS f
CROSS JOIN ends AS e
WHERE f.figure IS NOT NULL
GROUP BY (f.figure - e.low) // e.width
ORDER BY low
