-- question: does each replay control match its treatment: updates, rows, tokens, and no labels?
-- grain: one row per control, update (null: the whole dataset) and thing that differs
-- params:
--   datasets: VARCHAR = NULL -- the controls: names comma-separated; NULL: all in use of kind replay
--   treatment: VARCHAR = NULL -- the dataset to match; NULL: the one that the lock names
--   tolerance: DOUBLE = NULL -- largest relative difference in tokens; NULL: the lock's, else 0.02
-- columns: control, treatment, update, differs, control_has, treatment_has
WITH pairs AS MATERIALIZED (
    SELECT *, coalesce($tolerance, stated_tolerance, 0.02) AS allowed
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
ORDER BY ALL;

-- figures: rows and tokens, by control
-- skipped when: no dataset is a replay control
SELECT
    control_rows AS examined,
    control,
    treatment,
    control_tokens,
    treatment_tokens,
    coalesce(round(control_tokens / nullif(treatment_tokens, 0) - 1, 5), 0) AS difference,
    control_labels
FROM replay_pairs($datasets, $treatment)
WHERE update IS NULL
ORDER BY control
