-- question: which evaluated policy does better on the same prompts, by how much, and how sure is that?
-- grain: one row per pair of eval runs
-- params:
--   n: COUNT = 1 -- rollouts per prompt: the first n; prompts with fewer graded ones are left out
--   eval_runs: VARCHAR = NULL -- eval runs to compare: ids comma-separated; NULL: all
--   baseline: VARCHAR = NULL -- eval run that each other one is held against; NULL: every earlier one
--   prompts: VARCHAR = NULL -- prompts to compare on: ids comma-separated; NULL: all
--   verifier: VARCHAR = math-verify -- whose rewards count
--   resamples: COUNT = 2000 -- resamples of the prompts behind each interval
--   resample_seed: BIGINT = 0 -- another seed draws other resamples
-- columns: policy, against, run_id, against_run_id, prompts, difference, low, high, won, lost, tied
-- difference: avg@n of `policy` minus that of `against`, on the prompts that both have n rollouts of.
-- low and high: 95% paired bootstrap interval, from resamples of the prompts' differences; no
-- correction for looking at many pairs. won, lost, tied: prompts by the sign of their difference.
WITH scores AS MATERIALIZED (
    SELECT s.*, p.name AS policy
    FROM eval_prompts($eval_runs, $prompts, $n, $verifier) AS s
    LEFT JOIN policies AS p USING (policy_id)
),
runs_in AS (
    SELECT
        run_id, policy,
        row_number() OVER (
            ORDER BY list_position(string_split($eval_runs, ','), run_id), policy, run_id
        ) AS rank
    FROM (SELECT DISTINCT run_id, policy FROM scores)
),
pairs AS (
    SELECT
        a.rank AS rank, b.rank AS against_rank, a.policy, b.policy AS against, a.run_id,
        b.run_id AS against_run_id
    FROM runs_in AS a
    INNER JOIN runs_in AS b
        ON CASE
            WHEN $baseline IS NULL THEN a.rank > b.rank
            ELSE b.run_id = $baseline AND a.run_id <> b.run_id
        END
),
differences AS MATERIALIZED (
    SELECT
        p.rank, p.against_rank, a.reward - b.reward AS difference,
        row_number() OVER (PARTITION BY p.rank, p.against_rank ORDER BY a.prompt_id) - 1 AS place,
        count(*) OVER (PARTITION BY p.rank, p.against_rank) AS size
    FROM pairs AS p
    INNER JOIN scores AS a ON p.run_id = a.run_id
    INNER JOIN scores AS b ON p.against_run_id = b.run_id AND a.prompt_id = b.prompt_id
),
draws AS (
    SELECT *
    FROM bootstrap_draws(
        (SELECT list(DISTINCT size) FROM differences), $resamples, $resample_seed
    )
),
-- Rounded first, so that the order of a sum can never tip the last digit shown.
means AS (
    SELECT f.rank, f.against_rank, d.resample, round(avg(f.difference), 9) AS mean
    FROM draws AS d
    INNER JOIN differences AS f USING (size, place)
    GROUP BY ALL
),
intervals AS (
    SELECT
        rank, against_rank,
        quantile_cont(mean, 0.025) AS low,
        quantile_cont(mean, 0.975) AS high
    FROM means
    GROUP BY rank, against_rank
),
whole AS (
    SELECT
        rank, against_rank, count(*) AS prompts, round(avg(difference), 9) AS difference,
        count(*) FILTER (difference > 0) AS won,
        count(*) FILTER (difference < 0) AS lost,
        count(*) FILTER (difference = 0) AS tied
    FROM differences
    GROUP BY rank, against_rank
)
SELECT
    p.policy, p.against, p.run_id, p.against_run_id, a.prompts,
    round(a.difference, 4) AS difference, round(i.low, 4) AS low, round(i.high, 4) AS high,
    a.won, a.lost, a.tied
FROM pairs AS p
INNER JOIN whole AS a USING (rank, against_rank)
INNER JOIN intervals AS i USING (rank, against_rank)
ORDER BY rank, against_rank
