-- How many optimizer updates lie between a policy and those that its training passed through:
-- itself, its ancestors, and earlier policies of the same training runs. `learner` is a policy's id;
-- NULL: every policy.
-- policy_id, earlier_policy_id, lag.
CREATE MACRO policy_lags(learner) AS TABLE
    WITH RECURSIVE chain AS (
        SELECT policy_id, policy_id AS earlier_policy_id, 0::BIGINT AS lag, 0 AS depth
        FROM raw.policies
        WHERE learner IS NULL OR policy_id = learner
        UNION
        SELECT
            c.policy_id, p.parent_policy_id, c.lag + coalesce(p.update, 0), c.depth + 1
        FROM chain AS c
        INNER JOIN raw.policies AS p ON c.earlier_policy_id = p.policy_id
        -- Records that run in a circle must end too.
        WHERE p.parent_policy_id IS NOT NULL AND c.depth < 1000
    ),
    passed AS (
        SELECT policy_id, earlier_policy_id, lag FROM chain
        UNION ALL
        SELECT c.policy_id, e.policy_id, c.lag + p.update - e.update
        FROM chain AS c
        INNER JOIN raw.policies AS p ON c.earlier_policy_id = p.policy_id
        INNER JOIN raw.policies AS e
            ON p.run_id = e.run_id
            AND p.parent_policy_id IS NOT DISTINCT FROM e.parent_policy_id
            AND e.update < p.update
    )
    SELECT policy_id, earlier_policy_id, min(lag) AS lag
    FROM passed
    GROUP BY policy_id, earlier_policy_id
