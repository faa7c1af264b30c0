-- question: what has each run spent?
-- grain: one row a run
-- columns: run_id, kind, policy_id, role, purpose, labels, generated_tokens, scored_tokens, trained_tokens, updates, flops
-- FLOPs are estimates: 2 x parameters a token of a forward pass, 6 x parameters a trained token.
WITH generated AS (
    SELECT
        r.run_id,
        r.policy_id,
        r.role,
        r.purpose,
        sum(r.response_tokens)::BIGINT AS generated_tokens,
        sum(r.prompt_tokens + r.response_tokens)::BIGINT AS forward_tokens
    FROM raw.rollouts AS r
    GROUP BY ALL
),
scored AS (
    SELECT
        t.run_id,
        t.scorer_policy_id AS policy_id,
        r.role,
        r.purpose,
        sum(r.response_tokens)::BIGINT AS scored_tokens,
        sum(r.prompt_tokens + r.response_tokens)::BIGINT AS forward_tokens
    FROM raw.topk AS t
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    WHERE t.run_id <> r.run_id
    GROUP BY ALL
),
labels AS (
    SELECT run_id, count(DISTINCT prompt_id) AS labels
    FROM consumed_rows
    WHERE labelled
    GROUP BY run_id
),
trained AS (
    SELECT
        u.run_id,
        sum(u.response_tokens)::BIGINT AS trained_tokens,
        sum(u.prompt_tokens + u.response_tokens)::BIGINT AS forward_tokens,
        count(*) AS updates
    FROM raw.updates AS u
    GROUP BY u.run_id
),
trained_policy AS (
    SELECT run_id, arg_max(policy_id, update) AS policy_id FROM raw.policies GROUP BY run_id
)
SELECT
    g.run_id, 'generate' AS kind, g.policy_id, g.role, g.purpose, 0 AS labels,
    g.generated_tokens, 0 AS scored_tokens, 0 AS trained_tokens, 0 AS updates,
    2e0 * o.n_parameters * g.forward_tokens AS flops
FROM generated AS g
LEFT JOIN raw.policies AS o USING (policy_id)
UNION ALL
SELECT
    s.run_id, 'score', s.policy_id, s.role, s.purpose, 0,
    0, s.scored_tokens, 0, 0,
    2e0 * o.n_parameters * s.forward_tokens
FROM scored AS s
LEFT JOIN raw.policies AS o USING (policy_id)
UNION ALL
SELECT
    t.run_id, 'train', p.policy_id, 'student', 'train', coalesce(l.labels, 0),
    0, 0, t.trained_tokens, t.updates,
    6e0 * o.n_parameters * t.forward_tokens
FROM trained AS t
LEFT JOIN labels AS l USING (run_id)
LEFT JOIN trained_policy AS p USING (run_id)
LEFT JOIN raw.policies AS o ON p.policy_id = o.policy_id
