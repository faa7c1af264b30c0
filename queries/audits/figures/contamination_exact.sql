-- skipped when: no eval prompts are stored, or none are trained on
SELECT
    CASE WHEN t.prompts > 0 THEN e.prompts ELSE 0 END AS examined,
    e.prompts AS eval_prompts,
    t.prompts AS trained_prompts
FROM (SELECT count(*) AS prompts FROM prompts_evaluated($eval_splits)) AS e
CROSS JOIN (SELECT count(*) AS prompts FROM prompts_trained($datasets, $train_split)) AS t
