-- question: what is each locked dataset: which labels, on-policy or not, whose rollouts?
-- grain: one row per dataset
-- columns: dataset_id, kind, labels, on_policy, rollouts, has_topk, control_of
-- As the header of its query declares (queries/kinds.py), which the lock holds; of a lock that does
-- not, as the shipped kind of that name does. Nothing is known of other kinds: null.
-- control_of: the parameter that names the dataset which it is a control of; else null.
SELECT
    d.dataset_id,
    coalesce(d.lock ->> '$.kind', d.query) AS kind,
    coalesce(d.lock ->> '$.traits.labels', k.labels) AS labels,
    coalesce(d.lock ->> '$.traits.policy', k.policy) = 'on' AS on_policy,
    coalesce(d.lock ->> '$.traits.rollouts', k.rollouts) AS rollouts,
    coalesce((d.lock ->> '$.traits.has_topk')::BOOLEAN, k.has_topk) AS has_topk,
    nullif(coalesce(d.lock ->> '$.traits.control', k.control), '') AS control_of
FROM raw.datasets AS d
LEFT JOIN dataset_kinds AS k ON coalesce(d.lock ->> '$.kind', d.query) = k.kind
