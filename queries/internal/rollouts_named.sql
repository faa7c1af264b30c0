-- question: which rollouts have an id that begins so?
-- grain: one row per rollout; 6 of them at most
-- params:
--   prefix: VARCHAR -- the first characters of an id, or all of it
-- columns: rollout_id
SELECT rollout_id
FROM rollouts
WHERE starts_with(rollout_id, $prefix)
ORDER BY rollout_id
LIMIT 6
