-- question: which stored bridge rollouts, replayed, may match a Stage 3 dataset and spend no label?
-- grain: one row per use that a rollout may have, `slot` is its place by length
-- needs: scorer_policy_id, support, k, response_logprobs
-- labels: none
-- policy: off
-- rollouts: any
-- control: treatment
-- params:
--   treatment: VARCHAR -- the dataset to match: the newest of that name, or an id
--   bridge: VARCHAR = opd,warmup -- datasets whose rollouts to draw from: kinds, names or ids, comma-separated
--   role: teacher|student = NULL -- only rollouts of that role
--   policy: POLICY = NULL -- only rollouts of that policy
--   k: COUNT = NULL -- entries per token; NULL: the largest stored
--   any_sampling: BOOLEAN = false -- take rollouts drawn at a temperature other than 1, with top-p or top-k, too: losses on sampled tokens are biased by them
--   passes: COUNT = 1 -- how often a rollout may be used
--   tolerance: DOUBLE = 0.02 -- largest relative difference of response tokens, in each update and in all
-- columns: slot, rollout_id, scorer_policy_id, support, k, response_tokens
-- Building gives every row of the treatment a rollout of nearly its length, with the same `row` and
-- `update` (s2d_store/datasets/replay_assign.py), and checks the tolerance.
-- Top-k: scorer and support are those of the bridge's lock.
WITH bridges AS (
    SELECT
        dataset_id,
        created_at,
        coalesce(lock ->> '$.params.support', 'own') AS support,
        lock ->> '$.scorers[*]' AS scorers
    FROM datasets
    WHERE
        dataset_id <> dataset_named($treatment)
        AND list_has_any(
            string_split(replace($bridge, ' ', ''), ','),
            [name, dataset_id, coalesce(lock ->> '$.kind', query)]
        )
),
bridge_rollouts AS (
    SELECT DISTINCT d.rollout_id, b.dataset_id, b.created_at, b.support, b.scorers
    FROM dataset_rows AS d
    INNER JOIN bridges AS b USING (dataset_id)
),
candidates AS (
    SELECT r.rollout_id, r.response_tokens, t.scorer_policy_id, t.support, t.k
    FROM bridge_rollouts AS b
    INNER JOIN rollouts AS r USING (rollout_id)
    INNER JOIN topk AS t ON b.rollout_id = t.rollout_id AND b.support = t.support
    WHERE
        r.response_tokens > 0
        AND (len(b.scorers) = 0 OR list_contains(b.scorers, t.scorer_policy_id))
        AND ($policy IS NULL OR r.policy_id = $policy)
        AND ($role IS NULL OR r.role = $role)
        AND ($k IS NULL OR t.k = $k)
    QUALIFY row_number() OVER (
        PARTITION BY r.rollout_id
        ORDER BY b.created_at DESC, b.dataset_id, t.k DESC, t.scorer_policy_id
    ) = 1
)
SELECT
    row_number() OVER (
        ORDER BY response_tokens, md5(concat($seed, '/', pass, '/', rollout_id)), rollout_id, pass
    ) - 1 AS slot,
    rollout_id,
    scorer_policy_id,
    support,
    k,
    response_tokens
FROM candidates
CROSS JOIN range($passes) AS _ (pass)
ORDER BY slot
