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
differences AS (
    SELECT
        p.rank, p.against_rank, a.prompt_id, a.reward - b.reward AS difference
    FROM pairs AS p
    INNER JOIN scores AS a ON p.run_id = a.run_id
    INNER JOIN scores AS b ON p.against_run_id = b.run_id AND a.prompt_id = b.prompt_id
),
-- Rounded first, so that the order of a sum can never tip the last digit shown.
means AS (
    SELECT
        rank, against_rank, count(*) AS prompts, round(avg(difference), 9) AS difference,
        list(difference ORDER BY prompt_id) AS sample,
        count(*) FILTER (difference > 0) AS won,
        count(*) FILTER (difference < 0) AS lost,
        count(*) FILTER (difference = 0) AS tied
    FROM differences
    GROUP BY rank, against_rank
),
intervals AS (
    SELECT * EXCLUDE sample, bootstrap_interval(sample, $resamples, $resample_seed) AS bounds
    FROM means
)
SELECT
    p.policy, p.against, p.run_id, p.against_run_id, i.prompts,
    round(i.difference, 4) AS difference, round(i.bounds.low, 4) AS low,
    round(i.bounds.high, 4) AS high, i.won, i.lost, i.tied
FROM pairs AS p
INNER JOIN intervals AS i USING (rank, against_rank)
ORDER BY rank, against_rank
