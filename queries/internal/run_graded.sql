-- question: how many rollouts and prompts does a run have, and how many are graded?
-- grain: one row
-- params:
--   run: VARCHAR -- the generate run
--   verifier: VARCHAR -- whose verdict
-- columns: rollouts, prompts, graded
SELECT
    count(*) AS rollouts,
    count(DISTINCT r.prompt_id) AS prompts,
    count(w.rollout_id) AS graded
FROM rollouts AS r
LEFT JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = $verifier
WHERE r.run_id = $run
