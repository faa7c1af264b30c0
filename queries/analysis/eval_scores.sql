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
-- columns: run_id, policy, measure, prompts, rollouts, value, low, high
-- Measures: avg@n, the mean reward; pass@k, unbiased (arXiv 2107.03374, equation 1), a rollout being
-- correct when its reward is above 0; maj@n, see macro eval_prompts; tokens per response; the share
-- truncated at the most tokens. Each is a mean over prompts.
-- low and high: 95% bootstrap interval, the 2.5th and 97.5th percentile over resamples of the prompts
-- with replacement. It says what other prompts of this kind would give, the luck of n samples
-- included; where all prompts score alike it has no width. Overlapping intervals say little about
-- two policies on the same prompts: eval_pairs compares them.
WITH scores AS MATERIALIZED (
    SELECT
        *,
        row_number() OVER (PARTITION BY run_id ORDER BY prompt_id) - 1 AS place,
        count(*) OVER (PARTITION BY run_id) AS size
    FROM eval_prompts($eval_runs, $prompts, $n, $verifier)
),
tries AS (
    SELECT unnest(list_sort(list_distinct(string_split($k, ',')::BIGINT[]))) AS k
),
figures AS MATERIALIZED (
    SELECT run_id, policy_id, size, place, 1 AS rank, concat('avg@', $n) AS measure, reward AS value
    FROM scores
    UNION ALL
    SELECT
        run_id, policy_id, size, place, 1 + t.k, concat('pass@', t.k),
        pass_at_k(rollouts, correct, t.k)
    FROM scores
    CROSS JOIN tries AS t
    UNION ALL
    SELECT run_id, policy_id, size, place, 2 + $n, concat('maj@', $n), majority
    FROM scores
    UNION ALL
    SELECT run_id, policy_id, size, place, 3 + $n, 'tokens', tokens
    FROM scores
    UNION ALL
    SELECT run_id, policy_id, size, place, 4 + $n, 'truncated', truncated
    FROM scores
),
-- Whole numbers make the tens of millions of rows that are summed here several times faster.
numbered AS MATERIALIZED (
    SELECT *, dense_rank() OVER (ORDER BY run_id, rank)::INT AS figure
    FROM figures
),
draws AS (
    SELECT *
    FROM bootstrap_draws((SELECT list(DISTINCT size) FROM scores), $resamples, $resample_seed)
),
-- Rounded first, so that the order of a sum can never tip the last digit shown.
means AS (
    SELECT f.figure, d.resample, round(avg(f.value), 9) AS mean
    FROM draws AS d
    INNER JOIN (SELECT size, place, figure, value FROM numbered) AS f USING (size, place)
    GROUP BY f.figure, d.resample
),
intervals AS (
    SELECT
        figure,
        quantile_cont(mean, 0.025) AS low,
        quantile_cont(mean, 0.975) AS high
    FROM means
    GROUP BY figure
),
whole AS (
    SELECT
        figure, run_id, policy_id, rank, measure, count(*) AS prompts,
        count(*) * $n AS rollouts, round(avg(value), 9) AS value
    FROM numbered
    GROUP BY ALL
)
SELECT
    a.run_id, p.name AS policy, a.measure, a.prompts, a.rollouts, round(a.value, 4) AS value,
    round(i.low, 4) AS low, round(i.high, 4) AS high
FROM whole AS a
INNER JOIN intervals AS i USING (figure)
LEFT JOIN policies AS p USING (policy_id)
ORDER BY list_position(string_split($eval_runs, ','), a.run_id), policy, a.run_id, a.rank
