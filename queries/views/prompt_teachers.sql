-- question: which teacher's scores does a dataset take for each prompt, where SQL names them?
-- grain: one row per prompt that has one
-- columns: prompt_id, teacher_policy_id
-- Without rows, but in a dataset whose parameter of type ROUTE is an expression: building it puts
-- the expression in this view's place, and its lock holds that (datasets/teacher_routes.py).
SELECT prompt_id, prompt_id AS teacher_policy_id
FROM raw.prompts
WHERE false
