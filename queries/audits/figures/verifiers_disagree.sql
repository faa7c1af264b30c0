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
