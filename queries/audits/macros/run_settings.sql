-- What decided the weights of training runs, setting by setting; `of_runs` names a CTE with run_id.
-- Seeds are left out, and what the runs were about.
-- run_id, name, value (text).
CREATE MACRO run_settings(of_runs) AS TABLE
    SELECT r.run_id, k.name, json_extract_string(r.config, concat('$."', k.name, '"')) AS value
    FROM runs AS r
    CROSS JOIN unnest(json_keys(r.config::JSON)) AS k (name)
    WHERE
        r.run_id IN (SELECT run_id FROM query_table(of_runs))
        AND k.name NOT IN ('policy_id', 'dataset_id', 'seed', 'asked')
