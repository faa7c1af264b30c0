-- question: what do rollouts say, in an order that a number draws?
-- grain: one row per rollout
-- params:
--   draw: BIGINT -- another number, another order
-- columns: every column of graded_rollouts, then prompt, draw
SELECT g.*, prompt_text(p.messages) AS prompt, md5(concat($draw, g.rollout_id)) AS draw
FROM graded_rollouts AS g
LEFT JOIN prompts AS p USING (prompt_id)
