-- question: which of the chosen rollouts have a top-k of their own policy, and with which k?
-- grain: one row per rollout
-- params:
--   k: BIGINT -- the k that it must have, 0 for any
-- columns: rollout_id, k: the largest
-- Temporary table _chosen: rollout_id.
SELECT rollout_id, max(k) AS k
FROM policy_topk
SEMI JOIN _chosen USING (rollout_id)
WHERE support = 'own' AND ($k = 0 OR k = $k)
GROUP BY rollout_id
