-- question: from which stages and first policies did each stage learn, and how?
-- grain: one row per stage, source and relation (parent, sampled, scored)
-- params: none
-- columns: stage, source, relation
-- A policy that no training run of this store made stands for itself; any other for its stage.
WITH named AS (
    SELECT p.policy_id, coalesce(r.stage, p.name, p.policy_id) AS node
    FROM policies AS p
    LEFT JOIN runs AS r ON p.run_id = r.run_id
)
SELECT DISTINCT a.node AS stage, coalesce(b.node, s.source_policy_id) AS source, s.relation
FROM policy_sources AS s
INNER JOIN named AS a ON s.policy_id = a.policy_id
LEFT JOIN named AS b ON s.source_policy_id = b.policy_id
WHERE a.node <> coalesce(b.node, s.source_policy_id)
ORDER BY ALL
