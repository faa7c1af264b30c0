-- question: what did a policy cost in all, from the first label on, by stage and policy?
-- grain: one row per side, stage and policy; then totals per side, per stage, and of all
-- params:
--   policy: POLICY -- the policy whose making is counted
--   purpose: train|eval|NULL = train -- rollouts that count; NULL: both
-- columns: level, side, stage, policy, labels, graded_labels, generated_tokens, scored_tokens, trained_tokens, updates, flops, label_visits
-- downstream: training on the policy's own line of parents, with the rollouts and scores it used.
-- upstream: what made the policies that sampled or scored for that line.
-- A generate run counts whole, once, whatever part of it a dataset kept; where it served both
-- sides, upstream. Labels are distinct on every level, so levels need not add up.
WITH RECURSIVE
edges AS MATERIALIZED (SELECT * FROM policy_sources),
line AS (
    SELECT $policy AS policy_id
    UNION
    SELECT e.source_policy_id
    FROM line AS l
    INNER JOIN edges AS e ON l.policy_id = e.policy_id AND e.relation = 'parent'
),
reached AS (
    SELECT $policy AS policy_id
    UNION
    SELECT e.source_policy_id
    FROM reached AS r
    INNER JOIN edges AS e ON r.policy_id = e.policy_id
),
-- A run counts up to the last of its policies that was reached; one that notes no update is the
-- run's end, and then last_update is NULL: the whole run.
trained AS MATERIALIZED (
    SELECT
        p.run_id,
        arg_max(p.policy_id, (p.update IS NULL, p.update, p.policy_id)) AS policy_id,
        CASE WHEN count(*) = count(p.update) THEN max(p.update) END AS last_update,
        CASE WHEN bool_or(l.policy_id IS NOT NULL) THEN 'downstream' ELSE 'upstream' END AS side
    FROM reached AS r
    INNER JOIN policy_runs AS p USING (policy_id)
    LEFT JOIN line AS l ON p.policy_id = l.policy_id
    GROUP BY p.run_id
),
used AS MATERIALIZED (
    SELECT
        e.source_run_id, e.relation, e.source_policy_id,
        CASE WHEN bool_or(t.side = 'upstream') THEN 'upstream' ELSE 'downstream' END AS side
    FROM reached AS r
    INNER JOIN edges AS e USING (policy_id)
    INNER JOIN trained AS t ON e.run_id = t.run_id
    WHERE e.relation <> 'parent'
    GROUP BY ALL
),
spending AS (SELECT * FROM spent WHERE kind <> 'train' AND ($purpose IS NULL OR purpose = $purpose)),
runs_taken AS MATERIALIZED (SELECT * FROM training_runs),
sizes AS MATERIALIZED (SELECT * FROM policy_sizes),
facts AS (
    SELECT
        u.side, s.stage, s.policy_id, NULL::VARCHAR AS spent_prompt,
        NULL::VARCHAR AS graded_prompt, 0 AS label_visits,
        s.generated_tokens, s.scored_tokens, 0 AS trained_tokens, 0 AS updates, s.flops
    FROM spending AS s
    INNER JOIN used AS u
        ON s.source_run_id = u.source_run_id AND s.policy_id = u.source_policy_id
        AND s.kind = CASE u.relation WHEN 'sampled' THEN 'generate' ELSE 'score' END
    UNION ALL
    SELECT
        t.side, r.stage, t.policy_id, NULL::VARCHAR, NULL::VARCHAR,
        0, 0, 0, u.trained_tokens, 1,
        coalesce(
            training_flops(
                s, r.checkpointing, u.prompt_tokens + u.response_tokens, u.response_tokens,
                u.squared_tokens
            ),
            0
        )
    FROM updates AS u
    INNER JOIN trained AS t ON u.run_id = t.run_id AND (t.last_update IS NULL OR u.update <= t.last_update)
    INNER JOIN runs_taken AS r ON u.run_id = r.run_id
    LEFT JOIN sizes AS s ON r.size_policy_id = s.policy_id
    UNION ALL
    SELECT t.side, r.stage, t.policy_id, c.prompt_id, NULL::VARCHAR, c.visited::INT, 0, 0, 0, 0, 0
    FROM labels_used AS c
    INNER JOIN trained AS t ON c.run_id = t.run_id AND (t.last_update IS NULL OR c.update <= t.last_update)
    INNER JOIN runs_taken AS r ON c.run_id = r.run_id
    UNION ALL
    SELECT DISTINCT u.side, g.stage, u.source_policy_id, NULL::VARCHAR, g.prompt_id, 0, 0, 0, 0, 0, 0
    FROM graded_labels AS g
    INNER JOIN used AS u ON g.source_run_id = u.source_run_id AND u.relation = 'sampled'
    WHERE $purpose IS NULL OR g.purpose = $purpose
),
totals AS (
    SELECT
        CASE
            WHEN grouping(policy_id) = 0 THEN 'policy'
            WHEN grouping(side) = 0 THEN 'side'
            WHEN grouping(stage) = 0 THEN 'stage'
            ELSE 'all'
        END AS level,
        side,
        stage,
        policy_id,
        count(DISTINCT spent_prompt) AS labels,
        coalesce(sum(label_visits), 0)::BIGINT AS label_visits,
        count(DISTINCT graded_prompt) AS graded_labels,
        coalesce(sum(generated_tokens), 0)::BIGINT AS generated_tokens,
        coalesce(sum(scored_tokens), 0)::BIGINT AS scored_tokens,
        coalesce(sum(trained_tokens), 0)::BIGINT AS trained_tokens,
        coalesce(sum(updates), 0)::BIGINT AS updates,
        coalesce(sum(flops), 0)::DOUBLE AS flops
    FROM facts
    GROUP BY GROUPING SETS ((side, stage, policy_id), (side), (stage), ())
)
SELECT
    t.level, t.side, t.stage, p.name AS policy, t.labels, t.graded_labels, t.generated_tokens,
    t.scored_tokens, t.trained_tokens, t.updates, t.flops, t.label_visits
FROM totals AS t
LEFT JOIN policies AS p USING (policy_id)
ORDER BY
    CASE t.level WHEN 'policy' THEN 1 WHEN 'side' THEN 2 WHEN 'stage' THEN 3 ELSE 4 END,
    t.side = 'downstream', t.stage, policy
