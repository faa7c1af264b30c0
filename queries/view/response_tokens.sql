-- question: what do some responses say, token by token?
-- grain: one row per rollout
-- params:
--   rollouts: VARCHAR -- rollout_ids, a list
--   most: COUNT -- tokens at most
-- columns: rollout_id, policy, prompt_id, response_text, response_tokens, texts
-- texts is null where no tokens are known; a token that the vocabulary lacks is null.
WITH parts AS (
    SELECT
        rollout_id, policy_id,
        unnest(range(least(len(response_token_ids), $most))) AS position,
        unnest(list_slice(response_token_ids, 1, $most)) AS token_id
    FROM raw.rollouts
    WHERE rollout_id IN (SELECT unnest($rollouts))
),
byte_level AS (
    SELECT DISTINCT tokenizer_fingerprint
    FROM raw.vocabularies
    WHERE token = 'Ġ'
),
decoded AS (
    SELECT
        t.rollout_id, t.position,
        token_text(v.token, b.tokenizer_fingerprint IS NOT NULL) AS text
    FROM parts AS t
    LEFT JOIN raw.policies AS p ON t.policy_id = p.policy_id
    LEFT JOIN byte_level AS b ON p.tokenizer_fingerprint = b.tokenizer_fingerprint
    LEFT JOIN raw.vocabularies AS v
        ON p.tokenizer_fingerprint = v.tokenizer_fingerprint AND t.token_id = v.token_id
),
texts AS (
    SELECT rollout_id, list(text ORDER BY position) AS texts
    FROM decoded
    GROUP BY rollout_id
)
SELECT
    r.rollout_id, coalesce(p.name, r.policy_id) AS policy, r.prompt_id,
    r.response_text[:20000] AS response_text, r.response_tokens, t.texts
FROM raw.rollouts AS r
LEFT JOIN raw.policies AS p ON r.policy_id = p.policy_id
LEFT JOIN texts AS t ON r.rollout_id = t.rollout_id
WHERE r.rollout_id IN (SELECT unnest($rollouts))
