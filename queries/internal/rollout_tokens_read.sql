-- question: what happened at each token of one rollout?
-- grain: one row per response token and scorer, in order
-- params:
--   rollout: VARCHAR -- rollout_id
-- columns: every column of view tokens, without rollout_id and policy
SELECT * EXCLUDE (rollout_id, policy)
FROM tokens
WHERE rollout_id = $rollout
ORDER BY scorer NULLS FIRST, position
