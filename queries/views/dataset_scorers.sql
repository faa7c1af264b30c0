-- question: whose top-k do the rows of each locked dataset hold?
-- grain: one row per dataset and scorer
-- columns: dataset_id, scorer_policy_id
-- The lock names them; of a lock that does not, every policy that scored its rollouts is one.
SELECT dataset_id, unnest(lock ->> '$.scorers[*]') AS scorer_policy_id
FROM raw.datasets
WHERE (lock -> '$.scorers') IS NOT NULL
UNION ALL
SELECT DISTINCT d.dataset_id, t.scorer_policy_id
FROM raw.dataset_rows AS d
INNER JOIN raw.datasets AS s USING (dataset_id)
INNER JOIN dataset_traits AS k USING (dataset_id)
INNER JOIN raw.topk AS t USING (rollout_id)
WHERE (s.lock -> '$.scorers') IS NULL AND coalesce(k.has_topk, true)
