-- The top-k that a dataset takes of each rollout, as macro largest_topk: that of one teacher, or,
-- where `teacher` is an expression, of the teacher that view prompt_teachers names for its prompt.
-- rollout_id, scorer_policy_id, support, k.
CREATE MACRO teachers_topk(teacher, on_support, entries) AS TABLE
    SELECT rollout_id, scorer_policy_id, support, k
    FROM largest_topk(teacher, on_support, entries)
    UNION ALL
    SELECT t.rollout_id, t.scorer_policy_id, t.support, max(t.k) AS k
    FROM raw.topk AS t
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    INNER JOIN prompt_teachers AS p
        ON r.prompt_id = p.prompt_id AND t.scorer_policy_id = p.teacher_policy_id
    WHERE t.support = on_support AND (entries IS NULL OR t.k = entries)
    GROUP BY t.rollout_id, t.scorer_policy_id, t.support
