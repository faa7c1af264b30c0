-- Verdicts on rollouts that two or more verifiers judged; with `versions`, each version of a
-- verifier counts as one of its own. rollout_id, verifier, reward, outcome, extracted.
CREATE MACRO verdicts_of_several(wanted, versions) AS TABLE
    WITH named AS (
        SELECT
            *,
            CASE WHEN versions THEN concat(verifier, ' ', verifier_version) ELSE verifier END AS who
        FROM raw.rewards
        WHERE
            wanted IS NULL OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts(wanted))
    ),
    -- Most stores have one verifier: then its partition alone tells that there is nothing to pair.
    several AS (
        SELECT rollout_id
        FROM named
        WHERE (SELECT count(DISTINCT who) FROM named) > 1
        GROUP BY rollout_id
        HAVING min(who) <> max(who)
    )
    SELECT
        rollout_id,
        who AS verifier,
        arg_max(reward, (created_at, verifier_version)) AS reward,
        arg_max(outcome, (created_at, verifier_version)) AS outcome,
        arg_max(extracted, (created_at, verifier_version)) AS extracted
    FROM named
    WHERE rollout_id IN (SELECT rollout_id FROM several)
    GROUP BY rollout_id, who
