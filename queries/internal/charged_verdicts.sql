-- question: for which stages, roles and purposes is grading charged, and of which prompts?
-- grain: one row per stage, role and purpose
-- params: none
-- columns: stage, role, purpose, prompts
-- _pending: rollout_id of what is to be graded, and whether its prompt is labelled.
SELECT u.stage, r.role, r.purpose, list(DISTINCT r.prompt_id) AS prompts
FROM rollouts AS r
SEMI JOIN (SELECT rollout_id FROM _pending WHERE labelled) AS p USING (rollout_id)
LEFT JOIN runs AS u ON r.run_id = u.run_id
GROUP BY ALL
