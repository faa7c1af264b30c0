-- question: which labels has training spent, and how often has it visited them?
-- grain: one row per training run and prompt whose reward decided over the rows of its datasets
-- columns: run_id, stage, role, purpose, prompt_id, visits
-- visits counts the updates whose rows hold the prompt: 0 where its reward left it out.
SELECT
    u.run_id, t.stage, t.role, 'train' AS purpose, u.prompt_id,
    count(*) FILTER (u.visited) AS visits
FROM labels_used AS u
INNER JOIN training_runs AS t USING (run_id)
GROUP BY u.run_id, t.stage, t.role, u.prompt_id
