-- skipped when: no rollout was judged by two verifiers
SELECT
    count(*) AS examined,
    a.verifier AS verifier_a,
    b.verifier AS verifier_b,
    count(*) FILTER ((a.reward > 0) <> (b.reward > 0)) AS disagreements,
    round(avg(((a.reward > 0) <> (b.reward > 0))::INT), 4) AS share
FROM verdicts_of_several($datasets, $versions) AS a
INNER JOIN verdicts_of_several($datasets, $versions) AS b
    ON a.rollout_id = b.rollout_id AND a.verifier < b.verifier
GROUP BY a.verifier, b.verifier
ORDER BY a.verifier, b.verifier
