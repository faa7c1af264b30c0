-- question: whose scores do the rows of each locked dataset hold: teachers' top-k, a reference's logprobs?
-- grain: one row per dataset and scorer
-- columns: dataset_id, scorer_policy_id
-- The lock names them; of a lock that does not, every policy that scored its rollouts is one, and
-- its parameter `reference` names the reference policy.
SELECT dataset_id, unnest(lock ->> '$.scorers[*]') AS scorer_policy_id
FROM raw.datasets
WHERE (lock -> '$.scorers') IS NOT NULL
UNION
SELECT dataset_id, unnest(lock ->> '$.references[*]')
FROM raw.datasets
WHERE (lock -> '$.references') IS NOT NULL
UNION
SELECT dataset_id, lock ->> '$.params.reference'
FROM raw.datasets
WHERE (lock -> '$.references') IS NULL AND (lock ->> '$.params.reference') IS NOT NULL
UNION
SELECT d.dataset_id, t.scorer_policy_id
FROM raw.dataset_rows AS d
INNER JOIN raw.datasets AS s USING (dataset_id)
INNER JOIN dataset_traits AS k USING (dataset_id)
INNER JOIN raw.topk AS t USING (rollout_id)
WHERE (s.lock -> '$.scorers') IS NULL AND coalesce(k.has_topk, true)
