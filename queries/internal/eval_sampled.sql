-- question: which eval runs are done and hold every rollout that an evaluation counts?
-- grain: one row per run
-- params:
--   prompts: VARCHAR[] -- prompts evaluated on
--   runs: VARCHAR[] -- eval runs
--   n: COUNT -- rollouts per prompt
-- columns: run_id
SELECT r.run_id
FROM rollouts AS r
SEMI JOIN (SELECT unnest($prompts::VARCHAR[]) AS prompt_id) AS p USING (prompt_id)
SEMI JOIN (FROM runs WHERE status = 'done') AS d USING (run_id)
WHERE list_contains($runs, r.run_id) AND r.sample_index < $n
GROUP BY r.run_id
HAVING count(*) = $n * len($prompts::VARCHAR[])
