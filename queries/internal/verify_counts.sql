-- question: of the rollouts asked for, how many can be graded, and why not the others?
-- grain: one row
-- params: none
-- columns: wanted, unlabelled, without_text, pending
-- Temporary tables: _wanted (rollout_id, prompt_id) and _pending, see verify_pending.
SELECT
    count(*) AS wanted,
    count(*) FILTER (coalesce(p.answer_type = 'none', true)) AS unlabelled,
    count(*) FILTER (r.response_text IS NULL) AS without_text,
    (SELECT count(*) FROM _pending) AS pending
FROM _wanted AS w
INNER JOIN rollouts AS r USING (rollout_id)
LEFT JOIN prompts AS p ON w.prompt_id = p.prompt_id
