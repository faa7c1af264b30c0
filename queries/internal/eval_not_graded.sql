-- question: which rollouts does an evaluation count that no verdict of its verifier stands on?
-- grain: one row per rollout
-- params:
--   prompts: VARCHAR[] -- prompts evaluated on
--   runs: VARCHAR[] -- eval runs
--   n: COUNT -- rollouts per prompt
--   verifier: VARCHAR -- whose verdict
-- columns: rollout_id, run_id
SELECT
    rollout_id,
    r.run_id
FROM rollouts AS r
SEMI JOIN (SELECT unnest($prompts::VARCHAR[]) AS prompt_id) AS p USING (prompt_id)
ANTI JOIN (SELECT rollout_id FROM rewards WHERE verifier = $verifier) AS w USING (rollout_id)
WHERE list_contains($runs, r.run_id) AND r.sample_index < $n
ORDER BY rollout_id
