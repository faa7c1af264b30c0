-- What was spent in all, by role, by stage and by run, of one purpose (train or eval), or of
-- both where it is NULL.
-- One row per scope (experiment, role, stage, run) and name; labels are distinct within the scope.
CREATE MACRO spent_in(for_purpose) AS TABLE
    WITH amounts AS (
        SELECT
            CASE
                WHEN grouping(role) = 0 THEN 'role'
                WHEN grouping(stage) = 0 THEN 'stage'
                WHEN grouping(run_id) = 0 THEN 'run'
                ELSE 'experiment'
            END AS scope,
            coalesce(role, stage, run_id, '') AS name,
            coalesce(sum(generated_tokens), 0)::BIGINT AS generated_tokens,
            coalesce(sum(scored_tokens), 0)::BIGINT AS scored_tokens,
            coalesce(sum(trained_tokens), 0)::BIGINT AS trained_tokens,
            coalesce(sum(updates), 0)::BIGINT AS updates,
            coalesce(sum(flops), 0) AS flops
        FROM spent
        WHERE for_purpose IS NULL OR purpose = for_purpose
        GROUP BY GROUPING SETS ((), (role), (stage), (run_id))
    ),
    used AS (
        SELECT 'spent' AS measure, run_id, stage, role, prompt_id, visits
        FROM spent_labels
        WHERE for_purpose IS NULL OR purpose = for_purpose
        UNION ALL
        SELECT 'graded', run_id, stage, role, prompt_id, 0
        FROM graded_labels
        WHERE for_purpose IS NULL OR purpose = for_purpose
    ),
    labels AS (
        SELECT
            CASE
                WHEN grouping(role) = 0 THEN 'role'
                WHEN grouping(stage) = 0 THEN 'stage'
                WHEN grouping(run_id) = 0 THEN 'run'
                ELSE 'experiment'
            END AS scope,
            coalesce(role, stage, run_id, '') AS name,
            count(DISTINCT prompt_id) FILTER (measure = 'spent') AS labels,
            sum(visits)::BIGINT AS label_visits,
            count(DISTINCT prompt_id) FILTER (measure = 'graded') AS graded_labels
        FROM used
        GROUP BY GROUPING SETS ((), (role), (stage), (run_id))
    )
    SELECT
        scope,
        name,
        coalesce(l.labels, 0) AS labels,
        coalesce(l.graded_labels, 0) AS graded_labels,
        coalesce(a.generated_tokens, 0) AS generated_tokens,
        coalesce(a.scored_tokens, 0) AS scored_tokens,
        coalesce(a.trained_tokens, 0) AS trained_tokens,
        coalesce(a.updates, 0) AS updates,
        coalesce(a.flops, 0) AS flops,
        coalesce(l.label_visits, 0) AS label_visits
    FROM amounts AS a
    FULL JOIN labels AS l USING (scope, name)
