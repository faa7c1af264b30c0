-- Verdicts on rollouts that two or more verifiers judged; with `versions`, each version of a
-- verifier counts as one of its own. Withdrawn ones do not count, of several attempts the newest
-- does. rollout_id, verifier, reward, outcome, extracted.
CREATE MACRO verdicts_of_several(wanted, versions) AS TABLE
    WITH named AS (
        SELECT
            rollout_id, reward, outcome, extracted,
            CASE WHEN versions THEN concat(verifier, ' ', verifier_version) ELSE verifier END AS who
        FROM verdicts
        WHERE
            (counts OR (versions AND NOT withdrawn))
            AND (wanted IS NULL OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts(wanted)))
        QUALIFY row_number() OVER (PARTITION BY rollout_id, who ORDER BY attempt DESC) = 1
    ),
    -- Most stores have one verifier: then its partition alone tells that there is nothing to pair.
    several AS (
        SELECT rollout_id
        FROM named
        WHERE (SELECT count(DISTINCT who) FROM named) > 1
        GROUP BY rollout_id
        HAVING min(who) <> max(who)
    )
    SELECT rollout_id, who AS verifier, reward, outcome, extracted
    FROM named
    WHERE rollout_id IN (SELECT rollout_id FROM several)
