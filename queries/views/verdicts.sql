-- question: what has any version of any verifier said of each rollout, and which of it counts?
-- grain: one row per rollout, verifier, version and attempt
-- columns: every column of rewards, then withdrawn, counts
-- counts: the newest attempt of the newest version that is not withdrawn, one per rollout and
-- verifier at most. Versions are ordered by the verifier's own numbering, so that no clock decides:
-- those that begin with a number (0.9.0+s2d10) as text whose numbers are padded to 20 digits, after
-- those that do not (a hash); equal ones by their first use in the store, then as text.
-- A verifier of one version, without second attempts and withdrawals, has one verdict per rollout:
-- only others need sorting.
WITH sorted AS MATERIALIZED (
    SELECT verifier
    FROM raw.rewards
    GROUP BY verifier
    HAVING min(verifier_version) < max(verifier_version) OR max(attempt) > 0
    UNION
    SELECT verifier
    FROM raw.withdrawals
),
versions AS MATERIALIZED (
    SELECT
        u.verifier, u.verifier_version, w.verifier IS NOT NULL AS withdrawn,
        row_number() OVER (
            PARTITION BY u.verifier
            ORDER BY
                CASE
                    WHEN regexp_full_match(u.verifier_version, 'v?[0-9]+([^0-9A-Za-z].*)?')
                        THEN regexp_replace(
                            regexp_replace(
                                u.verifier_version, '([0-9]+)', '00000000000000000000\1', 'g'
                            ),
                            '0*([0-9]{20})([^0-9]|$)', '\1\2', 'g'
                        )
                    ELSE ''
                END,
                u.first_used,
                u.verifier_version
        ) AS version_rank
    FROM (
        SELECT verifier, verifier_version, min(created_at) AS first_used
        FROM raw.rewards
        WHERE verifier IN (FROM sorted)
        GROUP BY verifier, verifier_version
    ) AS u
    LEFT JOIN raw.withdrawals AS w USING (verifier, verifier_version)
)
SELECT *, false AS withdrawn, true AS counts
FROM raw.rewards
WHERE verifier NOT IN (FROM sorted)
UNION ALL
SELECT
    r.*, v.withdrawn,
    NOT v.withdrawn AND row_number() OVER (
        PARTITION BY r.rollout_id, r.verifier
        ORDER BY v.withdrawn, v.version_rank DESC, r.attempt DESC
    ) = 1
FROM raw.rewards AS r
INNER JOIN versions AS v USING (verifier, verifier_version)
WHERE r.verifier IN (FROM sorted)
