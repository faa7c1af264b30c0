-- question: is any eval prompt nearly the same as a prompt that is trained on?
-- grain: one row per prompt trained on and eval prompt that share enough n-grams
-- params:
--   datasets: VARCHAR = NULL -- datasets whose prompts are trained on: names comma-separated; NULL: all in use
--   train_split: VARCHAR = NULL -- take every prompt of this split instead of the datasets' prompts
--   eval_splits: VARCHAR = test,eval,validation -- splits of eval prompts, besides those evaluated
--   n: COUNT = 13 -- words in an n-gram; shorter prompts are left to contamination_exact
--   min_overlap: DOUBLE = 0.2 -- share of the eval prompt's n-grams from which two prompts count
--   template: DOUBLE = 0.05 -- share of eval prompts from which the words they share are a template's
-- columns: datasets, train_prompt_id, eval_prompt_id, eval_source, eval_split, shared, overlap, text
-- Answer formats and the like stand in many prompts: an n-gram is ignored where half of it (n // 2
-- words in a row) stands in more than that share of the eval prompts, and in more than two.
WITH evals AS MATERIALIZED (SELECT * FROM prompts_evaluated($eval_splits)),
trained AS MATERIALIZED (SELECT * FROM prompts_trained($datasets, $train_split)),
eval_words AS MATERIALIZED (
    SELECT prompt_id, list_transform(string_split(text, ' '), lambda w: hash(w)) AS words
    FROM evals
),
half_grams AS (
    SELECT prompt_id, unnest(range(1, len(words) - $n // 2 + 2)) AS position,
        unnest(list_transform(
            range(1, len(words) - $n // 2 + 2), lambda i: hash(words[i:i + $n // 2 - 1])
        )) AS half
    FROM eval_words
),
templates AS (
    SELECT half
    FROM half_grams
    GROUP BY half
    HAVING
        count(DISTINCT prompt_id) > greatest(2, $template * (SELECT count(*) FROM evals))
),
telling AS (
    SELECT prompt_id, position
    FROM half_grams
    QUALIFY NOT bool_or(half IN (FROM templates)) OVER (
        PARTITION BY prompt_id
        ORDER BY position
        ROWS BETWEEN CURRENT ROW AND $n - $n // 2 FOLLOWING
    )
),
eval_grams AS MATERIALIZED (
    SELECT DISTINCT prompt_id, gram
    FROM (
        SELECT
            prompt_id,
            unnest(range(1, len(words) - $n + 2)) AS position,
            unnest(list_transform(
                range(1, len(words) - $n + 2), lambda i: hash(words[i:i + $n - 1])
            )) AS gram
        FROM eval_words
    )
    INNER JOIN telling USING (prompt_id, position)
),
trained_grams AS (
    SELECT
        prompt_id,
        unnest(list_transform(
            range(1, len(words) - $n + 2), lambda i: hash(words[i:i + $n - 1])
        )) AS gram
    FROM (
        SELECT prompt_id, list_transform(string_split(text, ' '), lambda w: hash(w)) AS words
        FROM trained
    )
),
sizes AS (SELECT prompt_id, count(*) AS grams FROM eval_grams GROUP BY prompt_id),
pairs AS (
    SELECT
        t.prompt_id AS train_prompt_id, e.prompt_id AS eval_prompt_id,
        count(DISTINCT gram) AS shared
    FROM trained_grams AS t
    INNER JOIN eval_grams AS e USING (gram)
    GROUP BY ALL
)
SELECT
    t.datasets,
    p.train_prompt_id,
    p.eval_prompt_id,
    e.source AS eval_source,
    e.split AS eval_split,
    p.shared,
    round(p.shared / s.grams, 3) AS overlap,
    e.text[:200] AS text
FROM pairs AS p
INNER JOIN sizes AS s ON p.eval_prompt_id = s.prompt_id
INNER JOIN trained AS t ON p.train_prompt_id = t.prompt_id
INNER JOIN evals AS e ON p.eval_prompt_id = e.prompt_id
WHERE p.shared >= $min_overlap * s.grams AND t.text <> e.text
ORDER BY overlap DESC, train_prompt_id, eval_prompt_id;

-- figures: eval prompts and prompts trained on
-- skipped when: no eval prompts of n words or more are stored, or none are trained on
SELECT
    CASE WHEN t.prompts > 0 THEN e.long_prompts ELSE 0 END AS examined,
    e.prompts AS eval_prompts,
    e.prompts - e.long_prompts AS shorter_eval_prompts,
    t.prompts AS trained_prompts
FROM (
    SELECT
        count(*) AS prompts,
        count(*) FILTER (len(string_split(text, ' ')) >= $n) AS long_prompts
    FROM prompts_evaluated($eval_splits)
) AS e
CROSS JOIN (SELECT count(*) AS prompts FROM prompts_trained($datasets, $train_split)) AS t
