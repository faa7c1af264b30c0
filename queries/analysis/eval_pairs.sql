-- question: which evaluated policy does better on the same prompts, by how much, and how sure is that?
-- grain: one row per pair of eval runs
-- params:
--   n: COUNT = 1 -- rollouts per prompt: the first n; prompts with fewer graded ones are left out
--   eval_runs: VARCHAR = NULL -- eval runs to compare: ids comma-separated; NULL: all
--   baseline: VARCHAR = NULL -- eval run that each other one is held against; NULL: every earlier one
--   prompts: VARCHAR = NULL -- prompts to compare on: ids comma-separated; NULL: all
--   verifier: VARCHAR = math-verify -- whose rewards count
--   margin: DOUBLE = NULL -- differences of avg@n up to it do not matter: tests equivalence; NULL: no test
-- columns: policy, against, run_id, against_run_id, prompts, difference, standard_error, low, high, p, p_holm, p_equivalent, conclusion, won, lost, tied
-- difference: avg@n of `policy` minus that of `against`, on the prompts that both have n rollouts of.
-- standard_error, low and high: Student's t over the prompts' differences, 95%. They speak of these
-- weights on other prompts; for a statement about methods see eval_seeds.
-- p: two-sided, of no difference; p_holm: corrected for all pairs of the answer (macro holm).
-- p_equivalent: of a difference of `margin` or more either way (TOST), corrected likewise.
-- conclusion: see macro conclusion. won, lost, tied: prompts by the sign of their difference.
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
tested AS (
    SELECT
        rank, against_rank, count(*) AS prompts, avg(difference) AS difference,
        paired_test(list(difference), $margin) AS test,
        count(*) FILTER (difference > 0) AS won,
        count(*) FILTER (difference < 0) AS lost,
        count(*) FILTER (difference = 0) AS tied
    FROM differences
    GROUP BY rank, against_rank
),
corrected AS (
    SELECT
        *, holm(test.p, list(test.p) OVER ()) AS p_holm,
        holm(test.p_equivalent, list(test.p_equivalent) OVER ()) AS p_equivalent
    FROM tested
)
-- Rounded to nine digits first, so that the order of a sum can never tip the last digit shown.
SELECT
    p.policy, p.against, p.run_id, p.against_run_id, c.prompts,
    round(round(c.difference, 9), 4) AS difference,
    round(c.test.standard_error, 4) AS standard_error,
    round(c.test.low, 4) AS low, round(c.test.high, 4) AS high,
    round(c.test.p, 6) AS p, round(c.p_holm, 6) AS p_holm, round(c.p_equivalent, 6) AS p_equivalent,
    conclusion(c.difference, c.p_holm, c.p_equivalent) AS conclusion,
    c.won, c.lost, c.tied
FROM pairs AS p
INNER JOIN corrected AS c USING (rank, against_rank)
ORDER BY rank, against_rank
