-- question: which rollouts of the student, scored by the teacher, make on-policy distillation (stage 2b)?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs: scorer_policy_id, support, k, response_logprobs
-- labels: none
-- policy: on
-- rollouts: own
-- params:
--   student: POLICY -- the version of the student that training starts from
--   teacher: POLICY -- the policy whose scores to train on
--   support: policy|own = policy -- policy: the teacher's logprobs at the student's own top k, for reverse KL; own: the teacher's top k
--   k: BIGINT = 0 -- entries per token; 0 takes the largest stored
--   max_lag: BIGINT = 0 -- how many optimizer updates behind the student its rollouts may be; 0: its own alone
--   runs: VARCHAR = any -- only rollouts of these generate runs: ids comma-separated
--   round: BIGINT = -1 -- only this on-policy round; -1 takes all
--   finished_only: BOOLEAN = false -- leave out rollouts cut off at max_tokens
--   max_response_tokens: BIGINT = 0 -- leave out longer responses; 0 keeps all
--   max_per_prompt: BIGINT = 0 -- most rollouts of a prompt; 0 keeps all
--   rows_per_update: COUNT = 64 -- rows that one optimizer update consumes
--   passes: COUNT = 1 -- how often each rollout is used, in a fresh order each time
--   updates: BIGINT = 0 -- stop after that many updates; 0 uses every row
--   target_tokens: BIGINT = 0 -- stop after the update that reaches so many response tokens; 0: no such limit
-- columns: row, update, rollout_id, scorer_policy_id, support, k, labelled, lag, round
-- No reward chooses or weighs a row, so no label is spent.
-- Lag: optimizer updates between a version and the one that training starts from, over parents and
-- earlier checkpoints of the same training runs.
WITH RECURSIVE ancestors AS (
    SELECT policy_id, parent_policy_id, run_id, update, 0::BIGINT AS lag
    FROM policies
    WHERE policy_id = $student
    UNION
    SELECT p.policy_id, p.parent_policy_id, p.run_id, p.update, a.lag + coalesce(a.update, 0)
    FROM ancestors AS a
    INNER JOIN policies AS p ON a.parent_policy_id = p.policy_id
    WHERE a.lag + coalesce(a.update, 0) <= $max_lag
),
versions AS (
    SELECT policy_id, min(lag) AS lag
    FROM (
        SELECT policy_id, lag
        FROM ancestors
        UNION ALL
        SELECT e.policy_id, a.lag + a.update - e.update
        FROM ancestors AS a
        INNER JOIN policies AS e ON a.run_id = e.run_id AND e.update < a.update
    )
    WHERE lag <= $max_lag
    GROUP BY policy_id
),
candidates AS (
    SELECT r.rollout_id, r.prompt_id, r.response_tokens, r.round, t.k, v.lag
    FROM rollouts AS r
    INNER JOIN versions AS v USING (policy_id)
    INNER JOIN topk AS t
        ON r.rollout_id = t.rollout_id AND t.scorer_policy_id = $teacher AND t.support = $support
    WHERE
        r.purpose = 'train'
        AND ($runs = 'any' OR list_contains(string_split($runs, ','), r.run_id))
        AND r.response_tokens > 0
        AND ($k = 0 OR t.k = $k)
        AND ($round < 0 OR r.round = $round)
        AND (NOT $finished_only OR r.finish_reason = 'stop')
        AND ($max_response_tokens = 0 OR r.response_tokens <= $max_response_tokens)
    QUALIFY row_number() OVER (PARTITION BY r.rollout_id ORDER BY t.k DESC) = 1
),
kept AS (
    SELECT *
    FROM candidates
    QUALIFY
        $max_per_prompt = 0
        OR row_number() OVER (
            PARTITION BY prompt_id ORDER BY md5(concat($seed, '/', rollout_id)), rollout_id
        ) <= $max_per_prompt
),
ordered AS (
    SELECT
        *,
        row_number() OVER in_order - 1 AS row,
        sum(response_tokens) OVER in_order - response_tokens AS tokens_before
    FROM kept
    CROSS JOIN range($passes) AS passes (pass)
    WINDOW in_order AS (
        ORDER BY pass, md5(concat($seed, '/', pass, '/', rollout_id)), rollout_id
        ROWS UNBOUNDED PRECEDING
    )
)
SELECT
    row,
    row // $rows_per_update + 1 AS update,
    rollout_id,
    $teacher AS scorer_policy_id,
    $support AS support,
    k,
    false AS labelled,
    lag,
    round
FROM ordered
WHERE $updates = 0 OR row < $updates * $rows_per_update
QUALIFY
    $target_tokens = 0
    OR min(tokens_before) OVER (PARTITION BY row // $rows_per_update) < $target_tokens
ORDER BY row
