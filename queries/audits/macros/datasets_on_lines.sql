-- Which datasets stand behind one policy: those that it, its parents, its teachers and all that these
-- were made from learned from. A dataset that nothing has learned from yet has a line of its own, with
-- what stands behind the policy that it is for.
-- line (a policy's or dataset's id), dataset_id.
CREATE MACRO datasets_on_lines() AS TABLE
    WITH RECURSIVE edges AS MATERIALIZED (
        SELECT DISTINCT policy_id, source_policy_id, dataset_id FROM policy_sources
    ),
    unused AS MATERIALIZED (
        SELECT dataset_id, start_of(dataset_id) AS policy_id
        FROM raw.datasets
        ANTI JOIN edges USING (dataset_id)
    ),
    reached AS (
        SELECT DISTINCT policy_id AS line, policy_id FROM edges
        UNION
        SELECT dataset_id, policy_id FROM unused
        UNION
        SELECT r.line, e.source_policy_id
        FROM reached AS r
        INNER JOIN edges AS e USING (policy_id)
    )
    SELECT DISTINCT r.line, e.dataset_id
    FROM reached AS r
    INNER JOIN edges AS e USING (policy_id)
    WHERE e.dataset_id IS NOT NULL
    UNION ALL
    SELECT dataset_id, dataset_id
    FROM unused
