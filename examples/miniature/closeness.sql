-- question: how near does each OPD stage come to its teacher, and how sharp does it end?
-- grain: one row per stage
-- params: none
-- columns: stage, first_kl, last_kl, last_entropy
-- KL(student || teacher) and the student's entropy in nats per token, on the student's own rollouts:
-- means over the updates of the first and of the last round.
WITH rounds AS (
    SELECT r.stage, u.run_id, avg(u.kl) AS kl, avg(u.entropy) AS entropy, min(r.started_at) AS began
    FROM updates AS u
    INNER JOIN runs AS r USING (run_id)
    INNER JOIN datasets AS d USING (dataset_id)
    WHERE d.query IN ('opd', 'fresh_opd')
    GROUP BY r.stage, u.run_id
)
SELECT
    stage,
    arg_min(kl, began) AS first_kl,
    arg_max(kl, began) AS last_kl,
    arg_max(entropy, began) AS last_entropy
FROM rounds
GROUP BY stage
ORDER BY stage
