-- question: how near does each OPD arm come to its teacher, and how sharp does it end?
-- grain: one row per arm
-- params: none
-- columns: arm, first_kl, last_kl, last_entropy
-- KL(student || teacher) and the student's entropy in nats per token, on the student's own rollouts:
-- means over the updates of the first and the last round, and over seeds.
WITH rounds AS (
    SELECT
        regexp_extract(d.name, '^(?:miniature\.)?(.*?)\.s\d+', 1) AS arm,
        regexp_extract(d.name, '\.r(\d+)$', 1)::INT AS round,
        avg(u.kl) AS kl,
        avg(u.entropy) AS entropy
    FROM updates AS u
    INNER JOIN datasets AS d USING (dataset_id)
    INNER JOIN runs AS r USING (run_id)
    WHERE r.run_id LIKE 'train-opd-%'
    GROUP BY ALL
)
SELECT
    arm,
    avg(kl) FILTER (WHERE round = 0) AS first_kl,
    avg(kl) FILTER (WHERE round = last_round) AS last_kl,
    avg(entropy) FILTER (WHERE round = last_round) AS last_entropy
FROM (SELECT *, max(round) OVER (PARTITION BY arm) AS last_round FROM rounds)
GROUP BY arm
ORDER BY arm
