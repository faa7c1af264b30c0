-- What was spent in all, by role, by stage and by run, of one purpose (train, eval) or `any`.
-- One row per scope (experiment, role, stage, run) and name; labels are distinct within the scope.
CREATE MACRO spent_in(wanted) AS TABLE
    WITH amounts AS (
        SELECT
            CASE grouping(role, stage, run_id)
                WHEN 3 THEN 'role' WHEN 5 THEN 'stage' WHEN 6 THEN 'run' ELSE 'experiment'
            END AS scope,
            coalesce(role, stage, run_id, '') AS name,
            coalesce(sum(generated_tokens), 0)::BIGINT AS generated_tokens,
            coalesce(sum(scored_tokens), 0)::BIGINT AS scored_tokens,
            coalesce(sum(trained_tokens), 0)::BIGINT AS trained_tokens,
            coalesce(sum(updates), 0)::BIGINT AS updates,
            coalesce(sum(flops), 0) AS flops
        FROM spent
        WHERE wanted IN ('any', purpose)
        GROUP BY GROUPING SETS ((), (role), (stage), (run_id))
    ),
    used AS (
        SELECT 'spent' AS measure, run_id, stage, role, prompt_id
        FROM spent_labels
        WHERE wanted IN ('any', purpose)
        UNION ALL
        SELECT 'graded', run_id, stage, role, prompt_id
        FROM graded_labels
        WHERE wanted IN ('any', purpose)
    ),
    labels AS (
        SELECT
            CASE grouping(role, stage, run_id)
                WHEN 3 THEN 'role' WHEN 5 THEN 'stage' WHEN 6 THEN 'run' ELSE 'experiment'
            END AS scope,
            coalesce(role, stage, run_id, '') AS name,
            count(DISTINCT prompt_id) FILTER (measure = 'spent') AS labels,
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
        coalesce(a.flops, 0) AS flops
    FROM amounts AS a
    FULL JOIN labels AS l USING (scope, name)
