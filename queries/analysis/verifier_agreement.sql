-- question: how often do two verifiers agree on the same rollouts?
-- grain: one row per pair of verifiers that judged a rollout both
-- params:
--   verifier: VARCHAR = NULL -- only pairs with this verifier; NULL: all
--   purpose: train|eval = NULL -- only rollouts of this purpose; NULL: both
-- columns: verifier, other, rollouts, both_right, only_verifier, only_other, both_wrong, agreement, standard_error, kappa, reward_correlation
-- Right as macro is_correct says; rollouts that one of them did not judge (timeout, error) are left
-- out. agreement: share on which both say the same. standard_error: over prompts, whose rollouts are
-- alike. kappa: Cohen's, agreement beyond chance, null where both always say the same one thing.
-- reward_correlation: Pearson's, of the rewards; null where one never varies. Single rollouts: audit
-- verifiers_disagree.
WITH judged AS (
    SELECT
        w.rollout_id, r.prompt_id, w.verifier, w.reward, is_correct(w.outcome, w.reward) AS correct
    FROM current_rewards AS w
    INNER JOIN rollouts AS r USING (rollout_id)
    WHERE
        is_correct(w.outcome, w.reward) IS NOT NULL
        AND ($purpose IS NULL OR r.purpose = $purpose)
),
by_prompt AS (
    SELECT
        a.verifier, b.verifier AS other, a.prompt_id, count(*) AS n,
        count(*) FILTER (a.correct AND b.correct) AS both_right,
        count(*) FILTER (a.correct AND NOT b.correct) AS only_verifier,
        count(*) FILTER (NOT a.correct AND b.correct) AS only_other,
        count(*) FILTER (a.correct = b.correct) AS same,
        sum(a.reward) AS x, sum(b.reward) AS y, sum(a.reward * a.reward) AS xx,
        sum(b.reward * b.reward) AS yy, sum(a.reward * b.reward) AS xy
    FROM judged AS a
    INNER JOIN judged AS b ON a.rollout_id = b.rollout_id AND a.verifier < b.verifier
    WHERE $verifier IS NULL OR $verifier IN (a.verifier, b.verifier)
    GROUP BY a.verifier, b.verifier, a.prompt_id
),
sums AS (
    SELECT
        verifier, other, count(*) AS prompts, sum(n)::BIGINT AS rollouts,
        sum(both_right)::BIGINT AS both_right, sum(only_verifier)::BIGINT AS only_verifier,
        sum(only_other)::BIGINT AS only_other, sum(same)::BIGINT AS same, sum(same) / sum(n) AS agreement,
        sum(same * same) AS ss, sum(same * n) AS sn, sum(n * n) AS nn,
        sum(x) AS x, sum(y) AS y, sum(xx) AS xx, sum(yy) AS yy, sum(xy) AS xy
    FROM by_prompt
    GROUP BY verifier, other
),
chances AS (
    SELECT
        *,
        (
            (both_right + only_verifier) * (both_right + only_other)
            + (rollouts - both_right - only_verifier) * (rollouts - both_right - only_other)
        ) / (rollouts * rollouts) AS by_chance,
        (rollouts * xx - x * x) * (rollouts * yy - y * y) AS spread
    FROM sums
)
SELECT
    verifier, other, rollouts, both_right, only_verifier, only_other,
    same - both_right AS both_wrong,
    round(agreement, 4) AS agreement,
    CASE
        WHEN prompts > 1 THEN round(
            sqrt(
                prompts / (prompts - 1)
                * greatest(0, ss - 2 * agreement * sn + agreement * agreement * nn)
            ) / rollouts,
            4
        )
    END AS standard_error,
    CASE WHEN by_chance < 1 THEN round((agreement - by_chance) / (1 - by_chance), 4) END AS kappa,
    CASE WHEN spread > 0 THEN round((rollouts * xy - x * y) / sqrt(spread), 4) END
        AS reward_correlation
FROM chances
ORDER BY verifier, other
