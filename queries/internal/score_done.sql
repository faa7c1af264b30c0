-- question: which rollouts has a scorer scored?
-- grain: one row per rollout and k
-- params:
--   scorer: VARCHAR -- policy_id
--   support: VARCHAR -- whose top-k ids
-- columns: rollout_id, k
SELECT rollout_id, k
FROM topk
WHERE scorer_policy_id = $scorer AND support = $support
