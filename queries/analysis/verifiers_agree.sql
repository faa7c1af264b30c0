-- question: how often do two verifiers say the same of a rollout?
-- grain: one row per pair of verifiers
-- params: none
-- columns: verifier_a, verifier_b, rollouts, agree, only_a, only_b, kappa, example_a, example_b
-- Over the rollouts that both judged. agree: share that both call right or both wrong. only_a, only_b:
-- rollouts that one alone calls right, example_a and example_b one such each (s2d show reads it).
-- kappa: Cohen's, agreement beyond chance; null where one says the same of every rollout.
WITH judged AS (
    SELECT rollout_id, verifier, is_correct(outcome, reward) AS correct
    FROM current_rewards
    WHERE is_correct(outcome, reward) IS NOT NULL
),
pairs AS (
    SELECT
        a.verifier AS verifier_a, b.verifier AS verifier_b, a.rollout_id,
        a.correct AS a, b.correct AS b
    FROM judged AS a
    INNER JOIN judged AS b ON a.rollout_id = b.rollout_id AND a.verifier < b.verifier
),
counts AS (
    SELECT
        verifier_a, verifier_b, count(*) AS rollouts, avg((a = b)::INT) AS agree,
        avg(a::INT) AS rate_a, avg(b::INT) AS rate_b,
        count(*) FILTER (a AND NOT b) AS only_a, count(*) FILTER (b AND NOT a) AS only_b,
        min(rollout_id) FILTER (a AND NOT b) AS example_a,
        min(rollout_id) FILTER (b AND NOT a) AS example_b
    FROM pairs
    GROUP BY verifier_a, verifier_b
)
SELECT
    verifier_a, verifier_b, rollouts, round(agree, 4) AS agree, only_a, only_b,
    round(
        (agree - rate_a * rate_b - (1 - rate_a) * (1 - rate_b))
        / nullif(1 - rate_a * rate_b - (1 - rate_a) * (1 - rate_b), 0),
        4
    ) AS kappa,
    example_a, example_b
FROM counts
ORDER BY verifier_a, verifier_b
