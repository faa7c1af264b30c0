-- question: which prompts of an evaluation has the policy, or any policy behind it, trained on?
-- grain: one row per eval prompt that is trained on, by its id or by its text after normalisation
-- params:
--   policy: POLICY -- the policy to evaluate
--   prompts: VARCHAR = NULL -- prompts to evaluate on: ids comma-separated; NULL: its eval rollouts' prompts
-- columns: prompt_id, text, datasets, trained
-- trained: the policies whose training took the prompt. Behind a policy stand its parents and those
-- that sampled or scored for it, however far back: what a teacher learned by heart, it passes on.
WITH RECURSIVE
edges AS MATERIALIZED (
    SELECT DISTINCT policy_id, source_policy_id
    FROM policy_sources
),
reached AS (
    SELECT $policy AS policy_id
    UNION
    SELECT e.source_policy_id
    FROM reached AS r
    INNER JOIN edges AS e USING (policy_id)
),
-- A policy made half-way through a run has learned only from the updates before it.
taken AS MATERIALIZED (
    SELECT DISTINCT p.name AS policy, c.dataset_id, c.prompt_id
    FROM reached AS r
    INNER JOIN policies AS p USING (policy_id)
    INNER JOIN consumed_rows AS c
        ON p.run_id = c.run_id AND (p.update IS NULL OR c.update <= p.update)
),
trained AS (
    SELECT
        t.policy, d.name AS dataset, t.prompt_id,
        normalised_text(prompt_text(p.messages)) AS text
    FROM taken AS t
    INNER JOIN prompts AS p USING (prompt_id)
    LEFT JOIN datasets AS d ON t.dataset_id = d.dataset_id
),
wanted AS (
    SELECT
        prompt_id, prompt_text(messages) AS shown,
        normalised_text(prompt_text(messages)) AS text
    FROM prompts
    WHERE
        CASE
            WHEN $prompts IS NULL THEN prompt_id IN (
                SELECT prompt_id FROM rollouts WHERE purpose = 'eval' AND policy_id = $policy
            )
            ELSE prompt_id IN (SELECT unnest(string_split($prompts, ',')))
        END
),
found AS (
    SELECT w.prompt_id, w.shown, t.dataset, t.policy
    FROM wanted AS w
    INNER JOIN trained AS t ON w.prompt_id = t.prompt_id
    UNION
    SELECT w.prompt_id, w.shown, t.dataset, t.policy
    FROM wanted AS w
    INNER JOIN trained AS t ON w.text = t.text
    WHERE w.text <> ''
)
SELECT
    prompt_id,
    any_value(shown)[:200] AS text,
    string_agg(DISTINCT dataset, ',' ORDER BY dataset) AS datasets,
    string_agg(DISTINCT policy, ',' ORDER BY policy) AS trained
FROM found
GROUP BY prompt_id
ORDER BY prompt_id
