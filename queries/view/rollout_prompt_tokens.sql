-- question: what does a prompt say of which only token ids are known?
-- grain: one row per prompt token, in order
-- params:
--   rollout: VARCHAR -- rollout_id
-- columns: position, token_id, token
WITH ids AS (
    SELECT
        policy_id, unnest(range(len(prompt_token_ids))) AS position,
        unnest(prompt_token_ids) AS token_id
    FROM raw.rollouts
    WHERE rollout_id = $rollout
),
byte_level AS (
    SELECT DISTINCT tokenizer_fingerprint
    FROM raw.vocabularies
    WHERE token = 'Ġ'
)
SELECT
    i.position, i.token_id, token_text(v.token, b.tokenizer_fingerprint IS NOT NULL) AS token
FROM ids AS i
LEFT JOIN raw.policies AS p ON i.policy_id = p.policy_id
LEFT JOIN byte_level AS b ON p.tokenizer_fingerprint = b.tokenizer_fingerprint
LEFT JOIN raw.vocabularies AS v
    ON p.tokenizer_fingerprint = v.tokenizer_fingerprint AND i.token_id = v.token_id
ORDER BY i.position
