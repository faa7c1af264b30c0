-- question: how many rollouts per prompt do the evaluations have, and who graded them?
-- grain: one row, or none without graded eval rollouts
-- params: none
-- columns: n, verifier
-- n is the least of any eval run, so that all can be compared.
WITH sizes AS (
    SELECT r.run_id, w.verifier, max(r.sample_index) + 1 AS n
    FROM raw.rollouts AS r
    INNER JOIN raw.rewards AS w USING (rollout_id)
    WHERE r.purpose = 'eval'
    GROUP BY r.run_id, w.verifier
)
SELECT min(n) AS n, verifier
FROM sizes
GROUP BY verifier
ORDER BY count(*) DESC, verifier
LIMIT 1
