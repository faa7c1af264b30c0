-- question: which policies was each policy made from: its parent, whose rollouts, whose scores?
-- grain: one row per policy, source, relation (parent, sampled, scored), dataset and generate run
-- columns: policy_id, source_policy_id, relation, run_id, dataset_id, source_run_id
-- run_id is the training run between the two; a policy made half-way through it has learned only
-- from the datasets that its updates had reached by then.
WITH learned AS (
    SELECT p.policy_id, p.run_id, t.dataset_id
    FROM policy_runs AS p
    INNER JOIN run_datasets AS t
        ON p.run_id = t.run_id AND (p.update IS NULL OR t.first_update <= p.update)
),
sources AS MATERIALIZED (SELECT dataset_id, run_id, policy_id FROM dataset_sources)
SELECT
    policy_id, parent_policy_id AS source_policy_id, 'parent' AS relation, run_id,
    NULL::VARCHAR AS dataset_id, NULL::VARCHAR AS source_run_id
FROM raw.policies
WHERE parent_policy_id IS NOT NULL
UNION ALL
SELECT l.policy_id, s.policy_id, 'sampled', l.run_id, l.dataset_id, s.run_id
FROM learned AS l
INNER JOIN sources AS s USING (dataset_id)
UNION ALL
SELECT l.policy_id, c.scorer_policy_id, 'scored', l.run_id, l.dataset_id, s.run_id
FROM learned AS l
INNER JOIN dataset_scorers AS c USING (dataset_id)
INNER JOIN sources AS s USING (dataset_id)
