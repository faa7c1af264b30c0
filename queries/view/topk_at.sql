-- question: which tokens did the policy and each scorer think likeliest at one position?
-- grain: one row per scorer, support, k and entry, likeliest first
-- params:
--   rollout: VARCHAR -- rollout_id
--   position: BIGINT -- of the response, from 0
-- columns: scorer, is_policy, support, k, rank, token_id, token, logprob, sampled_logprob
WITH rows_of AS (
    SELECT
        t.scorer_policy_id, t.support, t.k, t.token_ids, t.logprobs,
        t.sampled_logprobs[$position + 1] AS sampled_logprob,
        coalesce(list_sum(list_slice(t.counts, 1, $position)), $position * t.k)::BIGINT AS start,
        coalesce(t.counts[$position + 1], t.k)::BIGINT AS entries,
        t.scorer_policy_id = r.policy_id AS is_policy
    FROM raw.topk AS t
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    WHERE t.rollout_id = $rollout
),
entries AS (
    SELECT
        scorer_policy_id, support, k, sampled_logprob, is_policy,
        unnest(range(1, entries + 1)) AS rank,
        unnest(token_ids[start + 1:start + entries]) AS token_id,
        unnest(logprobs[start + 1:start + entries]) AS logprob
    FROM rows_of
),
byte_level AS (
    SELECT DISTINCT tokenizer_fingerprint
    FROM raw.vocabularies
    WHERE token = 'Ġ'
)
SELECT
    coalesce(p.name, e.scorer_policy_id) AS scorer, e.is_policy, e.support, e.k, e.rank, e.token_id,
    token_text(v.token, b.tokenizer_fingerprint IS NOT NULL) AS token, e.logprob,
    e.sampled_logprob
FROM entries AS e
LEFT JOIN raw.policies AS p ON e.scorer_policy_id = p.policy_id
LEFT JOIN byte_level AS b ON p.tokenizer_fingerprint = b.tokenizer_fingerprint
LEFT JOIN raw.vocabularies AS v
    ON p.tokenizer_fingerprint = v.tokenizer_fingerprint AND e.token_id = v.token_id
ORDER BY e.is_policy DESC, scorer, e.support, e.k, e.logprob DESC, e.rank
