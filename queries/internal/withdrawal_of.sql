-- question: why was a verifier version withdrawn?
-- grain: one row, none where it was not
-- params:
--   verifier: VARCHAR -- its name
--   version: VARCHAR -- its version
-- columns: reason
SELECT reason
FROM withdrawals
WHERE verifier = $verifier AND verifier_version = $version
