-- question: what are the tokens of a tokenizer?
-- grain: one row per token, by id
-- params:
--   fingerprint: VARCHAR -- the tokenizer's
-- columns: token
SELECT token
FROM vocabularies
WHERE tokenizer_fingerprint = $fingerprint
ORDER BY token_id
