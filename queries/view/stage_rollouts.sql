-- question: what were the rollouts like that each update of a stage trained on?
-- grain: one row per training run and update
-- params:
--   of_stage: VARCHAR -- the stage
-- columns: run_id, update, pass_rate, mean_tokens, cut_off
SELECT
    c.run_id, c.update,
    avg(is_correct(g.outcome, g.reward)::INT) AS pass_rate,
    avg(g.response_tokens) AS mean_tokens,
    avg((g.finish_reason = 'length')::INT) AS cut_off
FROM consumed_rows AS c
INNER JOIN graded_rollouts AS g USING (rollout_id)
WHERE c.run_id IN (SELECT run_id FROM runs WHERE stage = $of_stage)
GROUP BY c.run_id, c.update
ORDER BY c.run_id, c.update
