-- question: which training runs made each policy, or left it as it was?
-- grain: one row per policy and run
-- columns: policy_id, run_id, update
-- A run without a step makes no policy. It stands behind the policy that it started from, where its
-- stage had made that, and behind those that its stage made from there; update is 0.
SELECT policy_id, run_id, update
FROM raw.policies
WHERE run_id IS NOT NULL
UNION ALL
SELECT p.policy_id, z.run_id, 0
FROM (SELECT run_id FROM run_datasets WHERE first_update = 0) AS z
INNER JOIN runs AS r USING (run_id)
INNER JOIN raw.policies AS p
    ON r.config ->> '$.policy_id' = p.policy_id OR r.config ->> '$.policy_id' = p.parent_policy_id
INNER JOIN runs AS m
    ON p.run_id = m.run_id AND r.stage = m.stage AND r.recipe IS NOT DISTINCT FROM m.recipe
