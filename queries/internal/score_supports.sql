-- question: which top-k of a scorer do the chosen rollouts have on its own support and on the policy's?
-- grain: one row per chosen rollout
-- params:
--   scorer: VARCHAR -- policy_id
--   k: BIGINT -- the k of its own support, 0 for any
-- columns: rollout_id, own_k, policy_k: the largest; null where there is none
-- Temporary table _chosen: rollout_id.
SELECT
    c.rollout_id,
    max(t.k) FILTER (t.support = 'own' AND ($k = 0 OR t.k = $k)) AS own_k,
    max(t.k) FILTER (t.support = 'policy') AS policy_k
FROM _chosen AS c
LEFT JOIN topk AS t
    ON c.rollout_id = t.rollout_id AND t.scorer_policy_id = $scorer AND t.k > 0
GROUP BY c.rollout_id
