-- question: how many rollouts of a dataset were sampled to evaluate?
-- grain: one row
-- params: none
-- columns: rollouts, eval_rollouts, example
-- _selected: the dataset's rollout_id, before it is stored.
SELECT
    count(*) AS rollouts,
    count(*) FILTER (purpose = 'eval') AS eval_rollouts,
    min(rollout_id) FILTER (purpose = 'eval') AS example
FROM rollouts
SEMI JOIN _selected USING (rollout_id)
