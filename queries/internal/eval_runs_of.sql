-- question: which eval runs does the store hold of a policy?
-- grain: one row per run, the newest first
-- params:
--   policy: POLICY -- the policy
-- columns: run_id, config
SELECT run_id, config
FROM runs
SEMI JOIN generate_runs USING (run_id)
WHERE
    kind = 'generate'
    AND config ->> '$.policy_id' = $policy
    AND config ->> '$.purpose' = 'eval'
ORDER BY started_at DESC, run_id
