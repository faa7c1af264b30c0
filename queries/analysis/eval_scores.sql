-- question: how well does each evaluated policy do, and how sure is that?
-- grain: one row per eval run and measure
-- params:
--   n: COUNT = 1 -- rollouts per prompt: the first n; prompts with fewer graded ones are left out
--   k: VARCHAR = 1 -- tries of pass@k, at most n; several comma-separated
--   eval_runs: VARCHAR = NULL -- eval runs to score: ids comma-separated; NULL: all
--   prompts: VARCHAR = NULL -- prompts to score on: ids comma-separated; NULL: all
--   verifier: VARCHAR = math-verify -- whose rewards count
--   resamples: COUNT = 2000 -- resamples of the prompts behind each interval
--   resample_seed: BIGINT = 0 -- another seed draws other resamples
-- columns: run_id, policy, measure, prompts, rollouts, unjudged, value, low, high
-- Measures: avg@n, the mean reward; pass@k, unbiased (arXiv 2107.03374, equation 1), a rollout being
-- correct as macro is_correct says; maj@n, see macro eval_prompts; tokens per response; the share
-- truncated at the most tokens. Each is a mean over prompts. Rollouts that nobody judged (timeout,
-- error) are left out of the first three and counted: `unjudged` of `rollouts`.
-- low and high: 95% bootstrap interval, the 2.5th and 97.5th percentile over resamples of the prompts
-- with replacement. It says what other prompts of this kind would give, the luck of n samples
-- included; where all prompts score alike it has no width. Overlapping intervals say little about
-- two policies on the same prompts: eval_pairs compares them.
WITH scores AS MATERIALIZED (
    SELECT * FROM eval_prompts($eval_runs, $prompts, $n, $verifier)
),
tries AS (
    SELECT unnest(list_sort(list_distinct(string_split($k, ',')::BIGINT[]))) AS k
),
figures AS (
    SELECT run_id, policy_id, prompt_id, 1 AS rank, concat('avg@', $n) AS measure, reward AS value
    FROM scores
    UNION ALL
    SELECT
        run_id, policy_id, prompt_id, 1 + t.k, concat('pass@', t.k),
        pass_at_k(rollouts, correct, t.k)
    FROM scores
    CROSS JOIN tries AS t
    UNION ALL
    SELECT run_id, policy_id, prompt_id, 2 + $n, concat('maj@', $n), majority
    FROM scores
    UNION ALL
    SELECT run_id, policy_id, prompt_id, 3 + $n, 'tokens', tokens
    FROM scores
    UNION ALL
    SELECT run_id, policy_id, prompt_id, 4 + $n, 'truncated', truncated
    FROM scores
),
-- Rounded first, so that the order of a sum can never tip the last digit shown.
means AS (
    SELECT
        run_id, policy_id, rank, measure, count(*) AS prompts, round(avg(value), 9) AS value,
        list(value ORDER BY prompt_id) AS sample
    FROM figures
    GROUP BY run_id, policy_id, rank, measure
),
intervals AS (
    SELECT * EXCLUDE sample, bootstrap_interval(sample, $resamples, $resample_seed) AS bounds
    FROM means
),
unjudged AS (
    SELECT run_id, sum(unjudged)::BIGINT AS unjudged
    FROM scores
    GROUP BY run_id
)
SELECT
    i.run_id, p.name AS policy, i.measure, i.prompts, i.prompts * $n AS rollouts, u.unjudged,
    round(i.value, 4) AS value, round(i.bounds.low, 4) AS low, round(i.bounds.high, 4) AS high
FROM intervals AS i
INNER JOIN unjudged AS u ON i.run_id = u.run_id
LEFT JOIN policies AS p USING (policy_id)
ORDER BY list_position(string_split($eval_runs, ','), i.run_id), policy, i.run_id, i.rank
