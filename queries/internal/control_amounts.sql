-- question: how many rows and response tokens does each update of a control have?
-- grain: one row per update
-- params: none
-- columns: update, rows, response_tokens, prompts
-- _control: the control's update and rollout_id, before it is stored.
SELECT
    c.update::INT AS update,
    count(*) AS rows,
    sum(r.response_tokens)::BIGINT AS response_tokens,
    count(DISTINCT r.prompt_id) AS prompts
FROM _control AS c
INNER JOIN rollouts AS r USING (rollout_id)
WHERE c.update > 0
GROUP BY c.update
