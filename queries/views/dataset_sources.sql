-- question: which generate runs do the rows of each locked dataset come from?
-- grain: one row per dataset and generate run
-- columns: dataset_id, run_id, policy_id, role, purpose, rows
-- A dataset without rows comes from the runs that its parameter `runs` names.
WITH counted AS (
    SELECT d.dataset_id, r.run_id, count(*) AS rows
    FROM raw.dataset_rows AS d
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    GROUP BY d.dataset_id, r.run_id
    UNION ALL
    SELECT dataset_id, unnest(string_split(lock ->> '$.params.runs', ',')), 0
    FROM raw.datasets
    WHERE (lock ->> '$.counts.rows')::INT = 0
)
SELECT c.dataset_id, c.run_id, g.policy_id, g.role, g.purpose, c.rows
FROM counted AS c
INNER JOIN generate_runs AS g USING (run_id)
