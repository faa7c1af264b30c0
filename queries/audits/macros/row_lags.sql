-- How far the rollouts of on-policy datasets lag behind the policy that trains on them: the one
-- that a run started from, else the one that the lock names, else the newest that sampled a row.
-- dataset, kind, learner, policy, rows, first_update, last_update, example (a rollout_id), lag
-- (null: no policy that the learner's training passed through), stated_max_lag.
CREATE MACRO row_lags(wanted) AS TABLE
    WITH sampled AS MATERIALIZED (
        SELECT
            d.dataset_id, r.policy_id, count(*) AS rows, min(d.update) AS first_update,
            max(d.update) AS last_update, min(d.rollout_id) AS example
        FROM raw.dataset_rows AS d
        INNER JOIN raw.rollouts AS r USING (rollout_id)
        WHERE d.dataset_id IN (
            SELECT dataset_id FROM audited_datasets(wanted) WHERE on_policy
        )
        GROUP BY d.dataset_id, r.policy_id
    ),
    started AS (
        SELECT DISTINCT u.dataset_id, t.start_policy_id
        FROM (SELECT DISTINCT run_id, dataset_id FROM raw.updates) AS u
        INNER JOIN training_runs AS t USING (run_id)
        WHERE t.start_policy_id IS NOT NULL
    ),
    newest AS (
        SELECT s.dataset_id, arg_max(s.policy_id, p.created_at) AS policy_id
        FROM sampled AS s
        INNER JOIN raw.policies AS p USING (policy_id)
        GROUP BY s.dataset_id
    )
    SELECT
        a.name AS dataset,
        a.kind,
        coalesce(l.name, l.policy_id) AS learner,
        coalesce(p.name, s.policy_id) AS policy,
        s.rows, s.first_update, s.last_update, s.example,
        g.lag,
        coalesce((a.lock ->> '$.params.max_lag')::BIGINT, 0) AS stated_max_lag
    FROM sampled AS s
    INNER JOIN audited_datasets(wanted) AS a USING (dataset_id)
    LEFT JOIN started AS t USING (dataset_id)
    LEFT JOIN newest AS n USING (dataset_id)
    LEFT JOIN raw.policies AS l
        ON l.policy_id = coalesce(
            t.start_policy_id, a.lock ->> '$.params.student', a.lock ->> '$.params.policy',
            n.policy_id
        )
    LEFT JOIN raw.policies AS p ON s.policy_id = p.policy_id
    LEFT JOIN policy_lags(NULL) AS g
        ON l.policy_id = g.policy_id AND s.policy_id = g.earlier_policy_id
