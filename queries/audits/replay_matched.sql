-- question: does each replay control match its treatment: updates, rows, tokens, and no labels?
-- grain: one row per control, update (null: the whole dataset) and thing that differs
-- params:
--   datasets: VARCHAR = all -- the controls: names comma-separated, or all (of kind replay)
--   treatment: VARCHAR = lock -- the dataset to match: a name, or the one that the lock names
--   tolerance: DOUBLE = -1 -- largest relative difference in tokens; below 0: the lock's, else 0.02
-- columns: control, treatment, update, differs, control_has, treatment_has
WITH pairs AS MATERIALIZED (
    SELECT
        *,
        CASE WHEN $tolerance >= 0 THEN $tolerance ELSE coalesce(stated_tolerance, 0.02) END
            AS allowed
    FROM replay_pairs($datasets, $treatment)
),
differences AS (
    SELECT
        control, treatment, update, 'treatment not stored' AS differs, 1 AS control_has,
        0 AS treatment_has
    FROM pairs
    WHERE treatment_id IS NULL AND update IS NULL
    UNION ALL
    SELECT control, treatment, update, 'rows', control_rows, treatment_rows
    FROM pairs
    WHERE treatment_id IS NOT NULL AND control_rows <> treatment_rows
    UNION ALL
    SELECT control, treatment, update, 'response_tokens', control_tokens, treatment_tokens
    FROM pairs
    WHERE
        treatment_id IS NOT NULL
        AND abs(control_tokens - treatment_tokens) > allowed * treatment_tokens
    UNION ALL
    SELECT control, treatment, update, 'labelled rows', control_labels, 0
    FROM pairs
    WHERE control_labels > 0
)
SELECT control, treatment, update, differs, control_has, treatment_has
FROM differences
ORDER BY ALL
