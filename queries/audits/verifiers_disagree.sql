-- question: do two verifiers judge the same rollout differently, too often?
-- grain: one row per rollout and pair of verifiers that disagree on whether it is right
-- params:
--   datasets: VARCHAR = NULL -- look only at rollouts of these datasets: names comma-separated; NULL: at every rollout
--   max_share: DOUBLE = 0 -- share of the rollouts that two verifiers judged on which they may differ
--   versions: BOOLEAN = false -- compare all versions of a verifier too, not the newest ones alone
-- columns: rollout_id, verifier_a, verifier_b, outcome_a, outcome_b, extracted_a, extracted_b, share
WITH judgements AS MATERIALIZED (SELECT * FROM verdicts_of_several($datasets, $versions)),
pairs AS (
    SELECT
        a.rollout_id,
        a.verifier AS verifier_a, b.verifier AS verifier_b,
        a.outcome AS outcome_a, b.outcome AS outcome_b,
        a.extracted AS extracted_a, b.extracted AS extracted_b,
        is_correct(a.outcome, a.reward) <> is_correct(b.outcome, b.reward) AS differs
    FROM judgements AS a
    INNER JOIN judgements AS b ON a.rollout_id = b.rollout_id AND a.verifier < b.verifier
),
judged AS (
    SELECT *, avg(differs::INT) OVER (PARTITION BY verifier_a, verifier_b) AS share
    FROM pairs
)
SELECT * EXCLUDE (differs, share), round(share, 4) AS share
FROM judged
WHERE differs AND share > $max_share
ORDER BY verifier_a, verifier_b, rollout_id;

-- figures: rollouts that both judged, by pair of verifiers
-- skipped when: no rollout was judged by two verifiers
SELECT
    count(differs) AS examined,
    verifier_a,
    verifier_b,
    count(*) FILTER (differs) AS disagreements,
    round(avg(differs::INT), 4) AS share
FROM (
    SELECT
        a.verifier AS verifier_a,
        b.verifier AS verifier_b,
        is_correct(a.outcome, a.reward) <> is_correct(b.outcome, b.reward) AS differs
    FROM verdicts_of_several($datasets, $versions) AS a
    INNER JOIN verdicts_of_several($datasets, $versions) AS b
        ON a.rollout_id = b.rollout_id AND a.verifier < b.verifier
)
GROUP BY verifier_a, verifier_b
ORDER BY verifier_a, verifier_b
