-- Training runs on controls beside those on their treatments. `pairs` names a CTE with control_id,
-- treatment_id and rewards. A control's run stands beside the run on its treatment that it differs from
-- least.
-- `root` is the policy that a side's rounds started from: rounds before, on controls of the one side
-- and treatments of the other, are followed back; `updates_before` counts their updates.
-- control_id, treatment_id, rewards, then of each side (control_, treatment_): run_id, root,
-- updates_before, updates, rows, tokens, policy_id.
CREATE MACRO paired_runs(pairs) AS TABLE
    WITH RECURSIVE named AS MATERIALIZED (
        SELECT DISTINCT control_id, treatment_id, rewards FROM query_table(pairs)
    ),
    taken AS MATERIALIZED (
        SELECT
            u.run_id, u.dataset_id, count(*) AS updates, sum(u.rows) AS rows,
            sum(u.response_tokens)::BIGINT AS tokens,
            u.dataset_id IN (SELECT control_id FROM named) AS is_control
        FROM raw.updates AS u
        WHERE
            u.dataset_id IN (SELECT unnest([control_id, treatment_id]) FROM named)
        GROUP BY u.run_id, u.dataset_id
    ),
    sides AS MATERIALIZED (
        SELECT t.*, r.start_policy_id, r.policy_id
        FROM taken AS t
        INNER JOIN training_runs AS r USING (run_id)
    ),
    back AS (
        SELECT run_id AS last_run, is_control, start_policy_id, 0::BIGINT AS updates_before, 0 AS depth
        FROM sides
        UNION ALL
        SELECT
            b.last_run, b.is_control, s.start_policy_id, (b.updates_before + s.updates)::BIGINT,
            b.depth + 1
        FROM back AS b
        INNER JOIN raw.policies AS p ON b.start_policy_id = p.policy_id
        INNER JOIN sides AS s ON p.run_id = s.run_id AND b.is_control = s.is_control
        -- Records that run in a circle must end too.
        WHERE b.depth < 1000
    ),
    rooted AS (
        SELECT
            s.*, r.root, r.updates_before
        FROM sides AS s
        INNER JOIN (
            SELECT
                last_run,
                arg_max(start_policy_id, depth) AS root,
                arg_max(updates_before, depth) AS updates_before
            FROM back
            GROUP BY last_run
        ) AS r ON s.run_id = r.last_run
    ),
    settings AS MATERIALIZED (SELECT * FROM run_settings('taken')),
    differing AS (
        SELECT c.run_id AS control_run, t.run_id AS treatment_run, count(*) AS differences
        FROM settings AS c
        INNER JOIN settings AS t ON c.name = t.name
        WHERE c.value IS DISTINCT FROM t.value
        GROUP BY c.run_id, t.run_id
    )
    SELECT
        n.control_id, n.treatment_id, n.rewards,
        c.run_id AS control_run, t.run_id AS treatment_run,
        c.root AS control_root, t.root AS treatment_root,
        c.updates_before AS control_before, t.updates_before AS treatment_before,
        c.updates AS control_updates, t.updates AS treatment_updates,
        c.rows AS control_rows, t.rows AS treatment_rows,
        c.tokens AS control_tokens, t.tokens AS treatment_tokens,
        c.policy_id AS control_policy, t.policy_id AS treatment_policy
    FROM named AS n
    INNER JOIN rooted AS c ON n.control_id = c.dataset_id
    INNER JOIN rooted AS t ON n.treatment_id = t.dataset_id
    LEFT JOIN differing AS d ON c.run_id = d.control_run AND t.run_id = d.treatment_run
    QUALIFY row_number() OVER (
        PARTITION BY c.run_id
        ORDER BY
            (c.root IS DISTINCT FROM t.root)::INT + (c.updates <> t.updates)::INT
            + coalesce(d.differences, 0),
            t.run_id
    ) = 1
