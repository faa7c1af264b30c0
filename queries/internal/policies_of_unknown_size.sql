-- question: which policies have spent tokens whose FLOPs cannot be estimated?
-- grain: one row per policy
-- columns: name
SELECT p.name
FROM policies AS p
SEMI JOIN spent AS s USING (policy_id)
WHERE coalesce(p.active_parameters, p.n_parameters) IS NULL
ORDER BY p.name
