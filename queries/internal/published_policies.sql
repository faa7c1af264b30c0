-- question: which policies do the rollouts of some runs depend on?
-- grain: one row per policy
-- params:
--   given: VARCHAR -- a list of ids, those that are policies count
-- columns: policy_id
-- _runs: run_id of the runs. Policies that sampled or scored, those given, and all their parents.
WITH RECURSIVE
used AS (
    SELECT policy_id FROM rollouts SEMI JOIN _runs USING (run_id)
    UNION
    SELECT t.scorer_policy_id
    FROM topk AS t
    INNER JOIN rollouts AS r USING (rollout_id)
    SEMI JOIN _runs ON r.run_id = _runs.run_id
    UNION
    SELECT unnest($given::VARCHAR[])
),
reached AS (
    SELECT policy_id FROM used
    UNION
    SELECT p.parent_policy_id FROM reached AS r INNER JOIN policies AS p USING (policy_id)
)
SELECT policy_id
FROM policies
SEMI JOIN reached USING (policy_id)
ORDER BY policy_id
