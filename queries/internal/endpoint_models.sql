-- question: which models and tokenizers were behind a policy's endpoints so far?
-- grain: one row per model and tokenizer that a probe found
-- params:
--   policy_id: VARCHAR -- the policy
-- columns: model_name, tokenizer_fingerprint
SELECT DISTINCT model_name, tokenizer_fingerprint
FROM endpoints
WHERE policy_id = $policy_id
