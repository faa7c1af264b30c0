-- question: how many tokens does each policy rank?
-- grain: one row per policy
-- params: none
-- columns: policy_id, name, vocab_size
SELECT policy_id, name, vocab_size
FROM policies
