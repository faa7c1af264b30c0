-- The rollouts that stand in the named datasets' rows: rollout_id, once a row.
CREATE MACRO chosen_rollouts(wanted) AS TABLE
    SELECT d.rollout_id
    FROM raw.dataset_rows AS d
    INNER JOIN audited_datasets(wanted) AS a USING (dataset_id)
