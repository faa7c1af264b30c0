-- question: which training runs were there, from which policy to which, for which stage and role?
-- grain: one row per training run that took an optimizer update, or none as its dataset has no rows
-- columns: run_id, stage, role, policy_id, start_policy_id, size_policy_id, checkpointing
-- size_policy_id: the policy by whose size its FLOPs are estimated, the one made or else the start.
-- checkpointing: whether layers ran twice to save memory.
-- policy_id is null until the run has made a policy; one that notes no update is the run's end. The
-- role is that of most of the rollouts where the run learned from a dataset of the trained policy's
-- own; all other kinds of datasets are for students.
WITH own_role AS (
    SELECT s.dataset_id, arg_max(s.role, (s.rows, s.role)) AS role
    FROM (
        SELECT dataset_id, role, sum(rows) AS rows FROM dataset_sources GROUP BY dataset_id, role
    ) AS s
    INNER JOIN dataset_traits AS d USING (dataset_id)
    WHERE d.rollouts = 'own'
    GROUP BY s.dataset_id
),
roles AS (
    SELECT t.run_id, max(coalesce(o.role, 'student')) AS role
    FROM run_datasets AS t
    LEFT JOIN own_role AS o USING (dataset_id)
    GROUP BY t.run_id
),
made AS (
    SELECT
        run_id,
        arg_max(policy_id, (update IS NULL, update)) AS policy_id,
        arg_max(parent_policy_id, (update IS NULL, update)) AS parent_policy_id
    FROM raw.policies
    WHERE run_id IS NOT NULL
    GROUP BY run_id
)
SELECT
    t.run_id,
    u.stage,
    t.role,
    m.policy_id,
    coalesce(m.parent_policy_id, u.config ->> '$.policy_id') AS start_policy_id,
    CASE
        WHEN coalesce(p.active_parameters, p.n_parameters) IS NOT NULL THEN p.policy_id
        ELSE s.policy_id
    END AS size_policy_id,
    coalesce((u.config ->> '$.gradient_checkpointing')::BOOLEAN, false) AS checkpointing
FROM roles AS t
LEFT JOIN runs AS u USING (run_id)
LEFT JOIN made AS m USING (run_id)
LEFT JOIN raw.policies AS p ON m.policy_id = p.policy_id
LEFT JOIN raw.policies AS s
    ON coalesce(m.parent_policy_id, u.config ->> '$.policy_id') = s.policy_id
