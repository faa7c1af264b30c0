-- The top-k that a dataset takes of each rollout: that scorer's, on that support (own or policy),
-- of `entries` entries per token; NULL: the largest stored.
-- rollout_id, scorer_policy_id, support, k.
CREATE MACRO largest_topk(scorer, on_support, entries) AS TABLE
    SELECT rollout_id, scorer_policy_id, support, max(k) AS k
    FROM raw.topk
    WHERE
        scorer_policy_id = scorer
        AND support = on_support
        AND (entries IS NULL OR k = entries)
    GROUP BY rollout_id, scorer_policy_id, support
