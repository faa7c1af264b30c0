-- question: what has each run spent?
-- grain: one row per run and the generate run whose rollouts it worked on (null for training)
-- columns: run_id, source_run_id, kind, stage, policy_id, role, purpose, generated_tokens, scored_tokens, trained_tokens, updates, flops
-- Stage, role and purpose of generated and scored tokens are those of the rollouts.
-- generated_tokens are those that the policy sampled, trained_tokens those of the mask.
-- FLOPs are estimates, see macros forward_flops and training_flops. A policy whose parameters are
-- unknown (known by name alone, or served) counts 0 FLOPs.
-- Labels do not add up over runs: see spent_labels and graded_labels.
-- What a generate run keeps of its own top-k costs nothing more: only other runs have scored.
-- Uniting a scorer's supports makes no new score: its rows cost nothing either.
-- What was imported was spent elsewhere: its tokens are in budget query imported, and not here.
WITH scored AS (
    SELECT
        t.run_id,
        r.run_id AS source_run_id,
        t.scorer_policy_id AS policy_id,
        r.role,
        r.purpose,
        sum(r.response_tokens)::BIGINT AS scored_tokens,
        sum(r.prompt_tokens + r.response_tokens)::BIGINT AS forward_tokens,
        sum(
            (r.prompt_tokens + r.response_tokens)::DOUBLE * (r.prompt_tokens + r.response_tokens)
        ) AS squared_tokens
    FROM (
        SELECT rollout_id, run_id, scorer_policy_id
        FROM raw.topk
        WHERE support <> 'union' AND run_id NOT IN (SELECT run_id FROM generate_runs)
    ) AS t
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    GROUP BY ALL
),
trained AS (
    SELECT
        u.run_id,
        sum(u.trained_tokens)::BIGINT AS trained_tokens,
        sum(u.prompt_tokens + u.response_tokens)::BIGINT AS forward_tokens,
        sum(u.response_tokens)::BIGINT AS response_tokens,
        sum(u.squared_tokens)::DOUBLE AS squared_tokens,
        count(*) AS updates
    FROM raw.updates AS u
    GROUP BY u.run_id
)
SELECT
    g.run_id, g.run_id AS source_run_id, 'generate' AS kind, u.stage, g.policy_id, g.role,
    g.purpose, g.sampled_tokens AS generated_tokens, 0 AS scored_tokens, 0 AS trained_tokens,
    0 AS updates,
    coalesce(
        forward_flops(o, g.prompt_tokens + g.response_tokens, g.sampled_tokens, g.token_pairs), 0
    ) AS flops
FROM generate_runs AS g
LEFT JOIN policy_sizes AS o USING (policy_id)
LEFT JOIN runs AS u ON g.run_id = u.run_id
WHERE NOT g.imported
UNION ALL
SELECT
    s.run_id, s.source_run_id, 'score', u.stage, s.policy_id, s.role,
    s.purpose, 0, s.scored_tokens, 0, 0,
    coalesce(forward_flops(o, s.forward_tokens, s.scored_tokens, s.squared_tokens), 0)
FROM scored AS s
LEFT JOIN policy_sizes AS o USING (policy_id)
LEFT JOIN runs AS u ON s.source_run_id = u.run_id
UNION ALL
SELECT
    t.run_id, NULL, 'train', r.stage, r.policy_id, r.role,
    'train', 0, 0, t.trained_tokens, t.updates,
    coalesce(
        training_flops(
            o, r.checkpointing, t.forward_tokens, t.response_tokens, t.squared_tokens
        ),
        0
    )
FROM trained AS t
LEFT JOIN training_runs AS r USING (run_id)
LEFT JOIN policy_sizes AS o ON r.size_policy_id = o.policy_id
