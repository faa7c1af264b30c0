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
