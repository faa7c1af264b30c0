-- question: which policies have weights, where, and how large are they?
-- grain: one row per policy
-- columns: name, policy_id, location, parameters
SELECT name, policy_id, location, coalesce(active_parameters, n_parameters) AS parameters
FROM policies
WHERE kind = 'weights'
