-- question: which policies stand behind one, itself among them?
-- grain: one row per policy
-- params:
--   id: VARCHAR -- policy_id
-- columns: policy_id
-- Temporary table _sources is what lineage_sources gives. UNION drops what was reached before, so
-- even records that run in a circle end.
WITH RECURSIVE reached AS (
    SELECT $id AS policy_id
    UNION
    SELECT s.source_policy_id
    FROM reached
    INNER JOIN _sources AS s USING (policy_id)
)
SELECT policy_id
FROM reached
