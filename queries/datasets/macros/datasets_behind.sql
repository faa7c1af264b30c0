-- The datasets that a policy and its parents were trained on: the policy's own line, without what
-- made its teachers. `of_policy` is an id.
-- dataset_id.
CREATE MACRO datasets_behind(of_policy) AS TABLE
    WITH RECURSIVE line AS (
        SELECT of_policy AS policy_id
        UNION
        SELECT p.parent_policy_id
        FROM line AS l
        INNER JOIN raw.policies AS p USING (policy_id)
        WHERE p.parent_policy_id IS NOT NULL
    )
    SELECT DISTINCT u.dataset_id
    FROM line AS l
    INNER JOIN raw.policies AS p USING (policy_id)
    INNER JOIN raw.updates AS u
        ON p.run_id = u.run_id AND (p.update IS NULL OR u.update <= p.update)
