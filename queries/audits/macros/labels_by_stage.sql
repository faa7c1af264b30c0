-- Whose gold answers the named datasets use: one row per role, stage, dataset and labelled prompt.
-- Controls, which visit their line's labels again on purpose, are left out: audit replay_matched shows
-- that they spend none.
-- The stage is that of the runs that trained on the dataset; while none has, that of the newest
-- trained one of its kind and role, or its kind. The role is that of the policy trained: the
-- rollouts' where they are the trained policy's own, else the student's.
-- in_recipe: rounds of recipes made it and no run by hand trained on it.
-- stage (written role/stage), dataset_id, name, in_recipe, prompt_id.
CREATE MACRO labels_by_stage(wanted) AS TABLE
    WITH labelled AS (SELECT dataset_id, prompt_id FROM dataset_labels),
    datasets AS (
        SELECT
            a.dataset_id, a.name, a.kind, a.created_at,
            CASE WHEN a.rollouts = 'own' THEN s.role ELSE 'student' END AS role
        FROM (FROM audited_datasets(wanted) WHERE control_of IS NULL) AS a
        SEMI JOIN labelled USING (dataset_id)
        LEFT JOIN (
            SELECT dataset_id, arg_max(role, (rows, role)) AS role
            FROM dataset_sources
            GROUP BY dataset_id
        ) AS s USING (dataset_id)
    ),
    stages AS (
        SELECT DISTINCT u.dataset_id, r.stage
        FROM run_datasets AS u
        INNER JOIN runs AS r USING (run_id)
        WHERE r.stage IS NOT NULL
    ),
    made_by AS (
        SELECT d.dataset_id, r.recipe
        FROM datasets AS d
        INNER JOIN runs AS r ON d.name = r.run_id AND r.kind = 'round'
        UNION ALL
        SELECT u.dataset_id, r.recipe
        FROM run_datasets AS u
        INNER JOIN runs AS r USING (run_id)
    ),
    by_recipe AS (
        SELECT dataset_id
        FROM made_by
        GROUP BY dataset_id
        HAVING bool_and(recipe IS NOT NULL)
    ),
    alike AS (
        SELECT d.kind, d.role, arg_max(s.stage, d.created_at) AS stage
        FROM datasets AS d
        INNER JOIN stages AS s USING (dataset_id)
        GROUP BY d.kind, d.role
    )
    SELECT
        concat(d.role, '/', coalesce(s.stage, a.stage, d.kind)) AS stage,
        d.dataset_id, d.name, d.dataset_id IN (FROM by_recipe) AS in_recipe, l.prompt_id
    FROM labelled AS l
    INNER JOIN datasets AS d USING (dataset_id)
    LEFT JOIN stages AS s USING (dataset_id)
    LEFT JOIN alike AS a ON d.kind = a.kind AND d.role = a.role
