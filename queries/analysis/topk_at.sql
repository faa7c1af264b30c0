-- question: which tokens did the policy and each scorer think likeliest at one position?
-- grain: one row per scorer, support, k and rank
-- params:
--   rollout: ROLLOUT -- the rollout: its id, or the first characters of it
--   position: BIGINT = 0 -- of the response, from 0
-- columns: scorer, support, rank, token_id, token, probability, logprob, sampled
-- sampled: whether it is the token that the rollout has there.
WITH byte_level AS (
    SELECT tokenizer_fingerprint
    FROM vocabularies
    WHERE token = 'Ġ'
)
SELECT
    t.scorer, t.support, t.rank, t.token_id,
    token_text(t.token, p.tokenizer_fingerprint IN (FROM byte_level)) AS token,
    round(exp(t.logprob), 4) AS probability, round(t.logprob, 4) AS logprob,
    t.token_id = r.response_token_ids[$position + 1] AS sampled
FROM topk_of($rollout) AS t
INNER JOIN rollouts AS r ON r.rollout_id = $rollout
LEFT JOIN policies AS p ON r.policy_id = p.policy_id
WHERE t.position = $position
ORDER BY t.scorer, t.support, t.rank
