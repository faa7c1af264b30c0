-- question: does each control match its treatment, in data and in training, and spend no new label?
-- grain: one row per control, update (null: the whole) and thing that differs
-- params:
--   datasets: VARCHAR = NULL -- the controls: names comma-separated; NULL: all in use that declare one
--   treatment: VARCHAR = NULL -- the dataset to match; NULL: the one that the lock names
--   tolerance: DOUBLE = NULL -- largest relative difference of tokens, or, where a control samples anew, of rows and prompts; NULL: the lock's, else 0.02
-- columns: control, treatment, update, differs, control_has, treatment_has
-- Datasets: rows, prompts, response tokens (as the policy writes them where a control samples anew, so
-- then only shown), how rollouts were sampled, verifier and its version. Runs, where both sides have
-- been trained: start policy, updates before and in the run, rows, and every setting that both
-- trainers have. New labels: those of the control's whole lineage that its treatment's start had not
-- spent. A control of stored rollouts must have no labelled row unless its kind says so.
WITH pairs AS MATERIALIZED (
    SELECT *, coalesce($tolerance, stated_tolerance, 0.02) AS allowed
    FROM replay_pairs($datasets, $treatment)
),
stored AS (
    SELECT DISTINCT control, treatment, control_id, treatment_id, samples, rewards
    FROM pairs
    WHERE treatment_id IS NOT NULL
),
runs_beside AS MATERIALIZED (SELECT * FROM paired_runs('stored')),
both_ids AS (  -- noqa: ST03
    SELECT control_id AS dataset_id FROM stored
    UNION
    SELECT treatment_id FROM stored
),
sampling AS MATERIALIZED (SELECT * FROM sampled_alike('both_ids')),
both_runs AS (  -- noqa: ST03
    SELECT control_run AS run_id FROM runs_beside
    UNION
    SELECT treatment_run FROM runs_beside
),
settings AS MATERIALIZED (SELECT * FROM run_settings('both_runs')),
-- The labels that may be visited: of a run, those behind its treatment's root; before one, those behind
-- the policy that training on the control would start from.
starts AS MATERIALIZED (
    SELECT
        s.control_id,
        coalesce(r.treatment_root, start_of(s.control_id), start_of(s.treatment_id)) AS policy_id,
        r.control_policy
    FROM stored AS s
    LEFT JOIN runs_beside AS r USING (control_id)
),
ends AS (  -- noqa: ST03
    SELECT policy_id FROM starts
    UNION
    SELECT control_policy FROM starts WHERE control_policy IS NOT NULL
),
spent_by AS MATERIALIZED (SELECT * FROM lineage_labels('ends')),
new_labels AS (
    SELECT s.control_id, u.prompt_id
    FROM starts AS s
    INNER JOIN (
        SELECT dataset_id AS id, prompt_id FROM dataset_labels
        UNION
        SELECT policy_id, prompt_id FROM spent_by
    ) AS u ON u.id IN (s.control_id, s.control_policy)
    ANTI JOIN spent_by AS b ON s.policy_id = b.policy_id AND u.prompt_id = b.prompt_id
    GROUP BY s.control_id, u.prompt_id
),
counted AS (
    SELECT control, treatment, update, differs, has::VARCHAR AS control_has, wants::VARCHAR AS treatment_has
    FROM (
        SELECT control, treatment, update, 'rows' AS differs, control_rows AS has, treatment_rows AS wants
        FROM pairs
        WHERE
            treatment_id IS NOT NULL
            AND abs(control_rows - treatment_rows)
            > CASE WHEN samples THEN allowed * treatment_rows ELSE 0 END
        UNION ALL
        SELECT control, treatment, update, 'prompts', control_prompts, treatment_prompts
        FROM pairs
        WHERE
            treatment_id IS NOT NULL AND rewards
            AND abs(control_prompts - treatment_prompts) > allowed * treatment_prompts
        UNION ALL
        SELECT control, treatment, update, 'response_tokens', control_tokens, treatment_tokens
        FROM pairs
        WHERE
            treatment_id IS NOT NULL AND NOT samples
            AND abs(control_tokens - treatment_tokens) > allowed * treatment_tokens
    )
),
sampled AS (
    SELECT
        s.control, s.treatment, coalesce(c.name, t.name) AS differs,
        c.value AS control_has, t.value AS treatment_has
    FROM stored AS s
    CROSS JOIN (SELECT DISTINCT name FROM sampling) AS n
    LEFT JOIN sampling AS c ON s.control_id = c.dataset_id AND n.name = c.name
    LEFT JOIN sampling AS t ON s.treatment_id = t.dataset_id AND n.name = t.name
    WHERE s.samples AND (s.rewards OR n.name <> 'verifier') AND c.value IS DISTINCT FROM t.value
),
trained AS (
    SELECT
        r.control_id, 'start policy' AS differs,
        coalesce(c.name, r.control_root) AS control_has,
        coalesce(t.name, r.treatment_root) AS treatment_has
    FROM runs_beside AS r
    LEFT JOIN policies AS c ON r.control_root = c.policy_id
    LEFT JOIN policies AS t ON r.treatment_root = t.policy_id
    WHERE r.control_root IS DISTINCT FROM r.treatment_root
    UNION ALL
    SELECT
        control_id, 'updates before the run', control_before::VARCHAR, treatment_before::VARCHAR
    FROM runs_beside
    WHERE control_before <> treatment_before
    UNION ALL
    SELECT control_id, 'updates taken', control_updates::VARCHAR, treatment_updates::VARCHAR
    FROM runs_beside
    WHERE control_updates <> treatment_updates
    UNION ALL
    SELECT r.control_id, concat('setting ', n.name), c.value, t.value
    FROM runs_beside AS r
    CROSS JOIN (SELECT DISTINCT name FROM settings) AS n
    LEFT JOIN settings AS c ON r.control_run = c.run_id AND n.name = c.name
    LEFT JOIN settings AS t ON r.treatment_run = t.run_id AND n.name = t.name
    WHERE
        c.value IS DISTINCT FROM t.value
        AND (r.rewards OR (c.name IS NOT NULL AND t.name IS NOT NULL))
),
differences AS (
    SELECT
        control, treatment, NULL::INT AS update, 'treatment not stored' AS differs,
        '1' AS control_has, '0' AS treatment_has
    FROM pairs
    WHERE treatment_id IS NULL AND update IS NULL
    UNION ALL
    FROM counted
    UNION ALL
    SELECT control, treatment, NULL, differs, control_has, treatment_has
    FROM sampled
    UNION ALL
    SELECT s.control, s.treatment, NULL, t.differs, t.control_has, t.treatment_has
    FROM trained AS t
    INNER JOIN stored AS s USING (control_id)
    UNION ALL
    SELECT s.control, s.treatment, NULL, 'new labels', count(*)::VARCHAR, '0'
    FROM new_labels AS n
    INNER JOIN stored AS s USING (control_id)
    GROUP BY s.control, s.treatment
)
SELECT control, treatment, update, differs, control_has, treatment_has
FROM differences
ORDER BY ALL;

-- figures: rows, tokens, updates taken, labels visited and reuse, by control
-- skipped when: no dataset is a control
WITH pairs AS MATERIALIZED (
    SELECT * FROM replay_pairs($datasets, $treatment) WHERE update IS NULL
),
stored AS (  -- noqa: ST03
    SELECT control_id, treatment_id, rewards FROM pairs WHERE treatment_id IS NOT NULL
),
runs_beside AS MATERIALIZED (SELECT * FROM paired_runs('stored')),
reuse AS (
    SELECT p.control_id, count(*) / count(DISTINCT d.rollout_id) AS uses
    FROM pairs AS p
    INNER JOIN dataset_rows AS d ON p.control_id = d.dataset_id
    GROUP BY p.control_id
)
SELECT
    p.control_rows AS examined,
    p.control,
    p.treatment,
    p.control_tokens,
    p.treatment_tokens,
    coalesce(round(p.control_tokens / nullif(p.treatment_tokens, 0) - 1, 5), 0) AS difference,
    p.control_labels AS labelled_rows,
    round(u.uses, 2) AS uses_per_rollout,
    r.control_updates,
    r.treatment_updates
FROM pairs AS p
LEFT JOIN reuse AS u USING (control_id)
LEFT JOIN runs_beside AS r USING (control_id)
ORDER BY p.control, r.control_run
