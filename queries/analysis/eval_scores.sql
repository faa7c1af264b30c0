-- question: how well does each evaluated policy do, and how sure is that?
-- grain: one row per eval run and measure
-- params:
--   n: COUNT = 1 -- rollouts per prompt: the first n; prompts with fewer graded ones are left out
--   k: VARCHAR = 1 -- tries of pass@k, at most n; several comma-separated
--   eval_runs: VARCHAR = NULL -- eval runs to score: ids comma-separated; NULL: all
--   prompts: VARCHAR = NULL -- prompts to score on: ids comma-separated; NULL: all
--   verifier: VARCHAR = math-verify -- whose rewards count
-- columns: run_id, policy, measure, prompts, rollouts, unjudged, value, standard_error, low, high
-- Measures: avg@n, the mean reward; pass@k, unbiased (arXiv 2107.03374, equation 1), a rollout being
-- correct as macro is_correct says; maj@n, see macro eval_prompts; tokens per response; the share
-- truncated at the most tokens. Each is a mean over prompts. Rollouts that nobody judged (timeout,
-- error) are left out of the first three and counted: `unjudged` of `rollouts`. A prompt with fewer
-- than k judged rollouts is left out of pass@k; k above n is refused.
-- standard_error: of the mean over prompts. low and high: its 95% interval, Student's t after a
-- transformation that removes skewness (s2d_store/statistics.py). Both say what other prompts of this
-- kind would give, the luck of n samples included, and nothing of other training seeds. Null for a
-- single prompt. Overlapping intervals say little about two policies on the same prompts: eval_pairs
-- compares them, eval_seeds compares methods.
WITH scores AS MATERIALIZED (
    SELECT * FROM eval_prompts($eval_runs, $prompts, $n, $verifier)
),
tries AS (
    SELECT DISTINCT
        CASE
            WHEN k BETWEEN 1 AND $n THEN k
            ELSE error(concat('pass@k needs k of 1 to n: k = ', k, ', n = ', $n))::BIGINT
        END AS k
    FROM (SELECT unnest(string_split($k, ',')::BIGINT[]) AS k)
),
figures AS (
    SELECT
        run_id, policy_id, rewards_are_shares AS bounded, 1 AS rank, concat('avg@', $n) AS measure,
        reward AS value
    FROM scores
    UNION ALL
    SELECT
        run_id, policy_id, true, 1 + t.k, concat('pass@', t.k), pass_at_k(rollouts, correct, t.k)
    FROM scores
    CROSS JOIN tries AS t
    UNION ALL
    SELECT run_id, policy_id, rewards_are_shares, 2 + $n, concat('maj@', $n), majority
    FROM scores
    UNION ALL
    SELECT run_id, policy_id, false, 3 + $n, 'tokens', tokens
    FROM scores
    UNION ALL
    SELECT run_id, policy_id, true, 4 + $n, 'truncated', truncated
    FROM scores
),
means AS (
    SELECT
        run_id, policy_id, rank, measure, count(*) AS prompts, avg(value) AS value,
        mean_interval(list(value), bool_and(bounded)) AS error
    FROM figures
    GROUP BY run_id, policy_id, rank, measure
),
unjudged AS (
    SELECT run_id, sum(unjudged)::BIGINT AS unjudged
    FROM scores
    GROUP BY run_id
)
-- Rounded to nine digits first, so that the order of a sum can never tip the last digit shown.
SELECT
    m.run_id, p.name AS policy, m.measure, m.prompts, m.prompts * $n AS rollouts, u.unjudged,
    round(round(m.value, 9), 4) AS value,
    round(m.error.standard_error, 4) AS standard_error,
    round(m.error.low, 4) AS low, round(m.error.high, 4) AS high
FROM means AS m
INNER JOIN unjudged AS u ON m.run_id = u.run_id
LEFT JOIN policies AS p USING (policy_id)
ORDER BY list_position(string_split($eval_runs, ','), m.run_id), policy, m.run_id, m.rank
