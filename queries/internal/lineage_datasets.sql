-- question: which datasets stand behind the policies that a walk has reached?
-- grain: one row per dataset
-- columns: dataset_id
-- Temporary tables _sources and _reached are what lineage_sources and lineage_reached give.
SELECT DISTINCT dataset_id
FROM _sources
SEMI JOIN _reached USING (policy_id)
WHERE dataset_id IS NOT NULL
