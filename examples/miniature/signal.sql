-- question: how much did the rewards of each GRPO stage tell, in its first and its last round?
-- grain: one row per stage
-- params: none
-- columns: stage, first_pass_rate, last_pass_rate, first_mixed, last_mixed
-- mixed: share of prompts of whose rollouts some are right and some are wrong. Others teach nothing.
WITH prompts_of AS (
    SELECT
        r.stage, g.run_id, g.prompt_id, min(r.started_at) AS began,
        avg(g.reward) AS pass_rate,
        (min(g.reward) < max(g.reward))::INT AS mixed
    FROM graded_rollouts AS g
    INNER JOIN runs AS r USING (run_id)
    WHERE g.purpose = 'train' AND g.reward IS NOT NULL
    GROUP BY r.stage, g.run_id, g.prompt_id
),
rounds AS (
    SELECT stage, run_id, min(began) AS began, avg(pass_rate) AS pass_rate, avg(mixed) AS mixed
    FROM prompts_of
    GROUP BY stage, run_id
)
SELECT
    stage,
    arg_min(pass_rate, began) AS first_pass_rate,
    arg_max(pass_rate, began) AS last_pass_rate,
    arg_min(mixed, began) AS first_mixed,
    arg_max(mixed, began) AS last_mixed
FROM rounds
GROUP BY stage
ORDER BY stage
