-- question: which method does better over training seeds, by how much, and how sure is that?
-- grain: one row per pair of methods
-- params:
--   methods: VARCHAR -- methods to compare: names of their policies with {seed} where the seed's number stands, comma-separated
--   baseline: VARCHAR = NULL -- method that each other one is held against; NULL: every earlier one
--   seeds: VARCHAR = NULL -- only these seeds: comma-separated; NULL: all that are registered
--   n: COUNT = 1 -- rollouts per prompt: the first n; prompts with fewer graded ones are left out
--   eval_runs: VARCHAR = NULL -- eval runs to take: ids comma-separated; NULL: all, one per policy
--   prompts: VARCHAR = NULL -- prompts to compare on: ids comma-separated; NULL: all
--   verifier: VARCHAR = math-verify -- whose rewards count
--   margin: DOUBLE = NULL -- differences of avg@n up to it do not matter: tests equivalence; NULL: no test
-- columns: method, against, seeds, unpaired, prompts, mean, against_mean, difference, standard_error, low, high, p, p_holm, p_equivalent, conclusion
-- A policy's score is its avg@n on the prompts that it shares with the other method's policy of the
-- same seed. Differences are paired by seed; a seed that only one method has is left out and counted
-- in `unpaired`. standard_error, low and high: Student's t over the seeds' differences, 95%: what
-- other seeds would give on these prompts. Null for a single seed. prompts: the fewest of a seed.
-- p: two-sided, of no difference; p_holm: corrected for all pairs of the answer (macro holm).
-- p_equivalent: of a difference of `margin` or more either way (TOST), corrected likewise.
-- conclusion: see macro conclusion; "no gain" is `equivalent`, never the want of a difference.
WITH methods_in AS (
    SELECT method, list_position(string_split($methods, ','), method) AS rank
    FROM (SELECT DISTINCT unnest(string_split($methods, ',')) AS method)
),
members AS MATERIALIZED (
    SELECT m.method, m.rank, p.policy_id, regexp_extract(p.name, m.pattern, 1) AS seed
    FROM (
        SELECT *, replace(regexp_escape(method), '\{seed\}', '([0-9]+)') AS pattern
        FROM methods_in
        WHERE contains(method, '{seed}')
    ) AS m
    INNER JOIN policies AS p ON regexp_full_match(p.name, m.pattern)
    WHERE $seeds IS NULL OR list_contains(string_split($seeds, ','), seed)
),
runs_of AS (
    SELECT
        policy_id,
        CASE
            WHEN min(run_id) < max(run_id)
                THEN error(concat(
                    'policy ', policy_id, ' has several eval runs, ', min(run_id), ' and ',
                    max(run_id), ' among them: give those to compare as eval_runs'
                ))
            ELSE min(run_id)
        END AS run_id
    FROM rollouts
    SEMI JOIN members USING (policy_id)
    WHERE
        purpose = 'eval'
        AND ($eval_runs IS NULL OR list_contains(string_split($eval_runs, ','), run_id))
    GROUP BY policy_id
),
scores AS MATERIALIZED (
    SELECT m.method, m.rank, m.seed, s.prompt_id, s.reward
    FROM members AS m
    INNER JOIN runs_of AS r USING (policy_id)
    INNER JOIN eval_prompts($eval_runs, $prompts, $n, $verifier) AS s USING (run_id)
),
pairs AS (
    SELECT a.method, a.rank, b.method AS against, b.rank AS against_rank
    FROM methods_in AS a
    INNER JOIN methods_in AS b
        ON CASE
            WHEN $baseline IS NULL THEN a.rank > b.rank
            ELSE b.method = $baseline AND a.method <> b.method
        END
),
by_seed AS (
    SELECT
        p.rank, p.against_rank, a.seed, count(*) AS prompts,
        avg(a.reward) AS score, avg(b.reward) AS against_score
    FROM pairs AS p
    INNER JOIN scores AS a ON p.method = a.method
    INNER JOIN scores AS b
        ON p.against = b.method AND a.seed = b.seed AND a.prompt_id = b.prompt_id
    GROUP BY p.rank, p.against_rank, a.seed
),
tested AS (
    SELECT
        rank, against_rank, count(*) AS seeds, min(prompts) AS prompts,
        avg(score) AS mean, avg(against_score) AS against_mean,
        avg(score - against_score) AS difference,
        paired_test(list(score - against_score), $margin) AS test
    FROM by_seed
    GROUP BY rank, against_rank
),
of_either AS (
    SELECT p.rank, p.against_rank, count(DISTINCT s.seed) AS seeds
    FROM pairs AS p
    INNER JOIN members AS s ON s.method IN (p.method, p.against)
    GROUP BY p.rank, p.against_rank
),
corrected AS (
    SELECT
        *, holm(test.p, list(test.p) OVER ()) AS p_holm,
        holm(test.p_equivalent, list(test.p_equivalent) OVER ()) AS p_equivalent
    FROM tested
)
-- Rounded to nine digits first, so that the order of a sum can never tip the last digit shown.
SELECT
    p.method, p.against, c.seeds, e.seeds - c.seeds AS unpaired, c.prompts,
    round(round(c.mean, 9), 4) AS mean, round(round(c.against_mean, 9), 4) AS against_mean,
    round(round(c.difference, 9), 4) AS difference,
    round(c.test.standard_error, 4) AS standard_error,
    round(c.test.low, 4) AS low, round(c.test.high, 4) AS high,
    round(c.test.p, 6) AS p, round(c.p_holm, 6) AS p_holm, round(c.p_equivalent, 6) AS p_equivalent,
    conclusion(c.difference, c.p_holm, c.p_equivalent) AS conclusion
FROM pairs AS p
INNER JOIN corrected AS c USING (rank, against_rank)
INNER JOIN of_either AS e USING (rank, against_rank)
ORDER BY rank, against_rank
