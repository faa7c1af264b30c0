-- question: where two verifiers, or two versions of one, judged the same rollouts: what did they say?
-- grain: one row per pair of verifiers and combination that occurs, none twice
-- params: none
-- columns: a, b, a_correct, b_correct, rollouts, examples
-- examples: up to 20 rollout_ids.
WITH judged AS MATERIALIZED (
    SELECT rollout_id, verifier, is_correct(outcome, reward) AS correct
    FROM verdicts_of_several(NULL, true)
    WHERE is_correct(outcome, reward) IS NOT NULL
)
SELECT
    a.verifier AS a, b.verifier AS b, a.correct AS a_correct, b.correct AS b_correct,
    count(*) AS rollouts, min(a.rollout_id, 20) AS examples
FROM judged AS a
INNER JOIN judged AS b ON a.rollout_id = b.rollout_id AND a.verifier < b.verifier
GROUP BY a.verifier, b.verifier, a_correct, b_correct
ORDER BY ALL
