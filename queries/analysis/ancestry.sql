-- question: which policies stand behind a policy, as parents, samplers or scorers?
-- grain: one row per policy that it was made from, however far back
-- params:
--   policy: POLICY -- the policy to trace
-- columns: steps, policy, relations, run_id, stage, update, parent, policy_id
-- steps: shortest way from the policy asked for; relations: how later policies used this one.
WITH RECURSIVE
edges AS MATERIALIZED (
    SELECT DISTINCT policy_id, source_policy_id, relation
    FROM policy_sources
    -- A round without a step sampled from the policy that it left.
    WHERE policy_id <> source_policy_id
),
-- UNION drops what was reached before, so even records that run in a circle end.
reached AS (
    SELECT $policy AS policy_id, 0 AS steps
    UNION
    SELECT e.source_policy_id, r.steps + 1
    FROM reached AS r
    INNER JOIN edges AS e USING (policy_id)
    WHERE r.steps < (SELECT count(*) FROM policies)
),
nearest AS (
    SELECT policy_id, min(steps) AS steps
    FROM reached
    GROUP BY policy_id
),
relations AS (
    SELECT
        e.source_policy_id AS policy_id,
        string_agg(DISTINCT e.relation, ', ' ORDER BY e.relation) AS relations
    FROM nearest AS n
    INNER JOIN edges AS e USING (policy_id)
    GROUP BY e.source_policy_id
)
SELECT
    n.steps, p.name AS policy, r.relations, p.run_id, u.stage, p.update, q.name AS parent,
    p.policy_id
FROM nearest AS n
INNER JOIN policies AS p USING (policy_id)
LEFT JOIN relations AS r USING (policy_id)
LEFT JOIN runs AS u ON p.run_id = u.run_id
LEFT JOIN policies AS q ON p.parent_policy_id = q.policy_id
ORDER BY n.steps, policy
