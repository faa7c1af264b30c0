-- The labels spent by everything that policies were made from: their parents, their teachers, and all
-- that these were made from. `policies` names a CTE or table with a column policy_id.
-- A run counts up to the last of its policies that was reached.
-- policy_id, prompt_id.
CREATE MACRO lineage_labels(policies) AS TABLE
    WITH RECURSIVE edges AS MATERIALIZED (
        SELECT DISTINCT policy_id, source_policy_id FROM policy_sources
    ),
    reached AS (
        SELECT policy_id AS root, policy_id FROM query_table(policies)
        UNION
        SELECT r.root, e.source_policy_id
        FROM reached AS r
        INNER JOIN edges AS e USING (policy_id)
    ),
    trained AS (
        SELECT
            r.root, p.run_id,
            CASE WHEN count(*) = count(p.update) THEN max(p.update) END AS last_update
        FROM reached AS r
        INNER JOIN policy_runs AS p USING (policy_id)
        GROUP BY r.root, p.run_id
    )
    SELECT DISTINCT t.root AS policy_id, u.prompt_id
    FROM trained AS t
    INNER JOIN labels_used AS u
        ON t.run_id = u.run_id AND (t.last_update IS NULL OR u.update <= t.last_update)
