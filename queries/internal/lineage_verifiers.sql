-- question: which verifiers judged the rollouts of the datasets that a walk has reached?
-- grain: one row per dataset, verifier, version and run
-- columns: every column of view dataset_verifiers
-- Temporary table _datasets is what lineage_datasets gives.
SELECT *
FROM dataset_verifiers
SEMI JOIN _datasets USING (dataset_id)
ORDER BY verifier, verifier_version, run_id
