-- question: what has any version of any verifier said of each rollout, and which of it counts?
-- grain: one row per rollout, verifier, version and attempt
-- columns: every column of rewards, then withdrawn, counts
-- counts: the newest attempt of the newest version that is not withdrawn, one per rollout and
-- verifier at most. Versions are ordered by the verifier's own numbering, so that no clock decides:
-- those that begin with a number (0.9.0+s2d10) by all their numbers from left to right, after those
-- that do not (a hash); equal ones by their first use in the store, then as text.
WITH used AS MATERIALIZED (
    SELECT
        verifier, verifier_version, min(created_at) AS first_used, max(attempt) AS last_attempt
    FROM raw.rewards
    GROUP BY verifier, verifier_version
),
versions AS MATERIALIZED (
    SELECT
        u.verifier, u.verifier_version, u.last_attempt,
        w.verifier IS NOT NULL AS withdrawn,
        row_number() OVER (
            PARTITION BY u.verifier
            ORDER BY
                CASE
                    WHEN regexp_full_match(u.verifier_version, 'v?[0-9]+([^0-9A-Za-z].*)?')
                        THEN list_transform(
                            regexp_extract_all(u.verifier_version, '[0-9]+'),
                            lambda digits: lpad(ltrim(digits, '0'), 40, '0')
                        )
                    ELSE []::VARCHAR[]
                END,
                u.first_used,
                u.verifier_version
        ) AS version_rank
    FROM used AS u
    LEFT JOIN raw.withdrawals AS w USING (verifier, verifier_version)
),
-- A verifier of one version without second attempts has one verdict per rollout: only others need
-- sorting.
several AS MATERIALIZED (
    SELECT verifier
    FROM versions
    GROUP BY verifier
    HAVING count(*) > 1 OR max(last_attempt) > 0
)
SELECT r.*, v.withdrawn, NOT v.withdrawn AS counts
FROM raw.rewards AS r
INNER JOIN versions AS v USING (verifier, verifier_version)
WHERE r.verifier NOT IN (FROM several)
UNION ALL
SELECT
    r.*, v.withdrawn,
    NOT v.withdrawn AND row_number() OVER (
        PARTITION BY r.rollout_id, r.verifier
        ORDER BY v.withdrawn, v.version_rank DESC, r.attempt DESC
    ) = 1
FROM raw.rewards AS r
INNER JOIN versions AS v USING (verifier, verifier_version)
WHERE r.verifier IN (FROM several)
