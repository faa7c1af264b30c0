-- question: is any eval prompt, word for word, among the prompts that are trained on?
-- grain: one row per prompt trained on and eval prompt of the same text after normalisation
-- params:
--   datasets: VARCHAR = NULL -- datasets whose prompts are trained on: names comma-separated; NULL: all in use
--   train_split: VARCHAR = NULL -- take every prompt of this split instead of the datasets' prompts
--   eval_splits: VARCHAR = test,eval,validation -- splits of eval prompts, besides those evaluated
-- columns: datasets, train_prompt_id, eval_prompt_id, eval_source, eval_split, text
WITH evals AS MATERIALIZED (SELECT * FROM prompts_evaluated($eval_splits)),
trained AS MATERIALIZED (SELECT * FROM prompts_trained($datasets, $train_split))
SELECT
    t.datasets,
    t.prompt_id AS train_prompt_id,
    e.prompt_id AS eval_prompt_id,
    e.source AS eval_source,
    e.split AS eval_split,
    e.text[:200] AS text
FROM trained AS t
INNER JOIN evals AS e USING (text)
WHERE t.text <> ''
ORDER BY t.datasets, train_prompt_id, eval_prompt_id;

-- figures: eval prompts and prompts trained on
-- skipped when: no eval prompts are stored, or none are trained on
SELECT
    CASE WHEN t.prompts > 0 THEN e.prompts ELSE 0 END AS examined,
    e.prompts AS eval_prompts,
    t.prompts AS trained_prompts
FROM (SELECT count(*) AS prompts FROM prompts_evaluated($eval_splits)) AS e
CROSS JOIN (SELECT count(*) AS prompts FROM prompts_trained($datasets, $train_split)) AS t
