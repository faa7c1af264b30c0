-- question: how many rollouts of a run has a verifier given a reward?
-- grain: one row
-- params:
--   run: VARCHAR -- the generate run
--   verifier: VARCHAR -- whose rewards
-- columns: judged
SELECT count(w.reward) AS judged
FROM rollouts AS r
INNER JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = $verifier
WHERE r.run_id = $run
