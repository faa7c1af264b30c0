-- question: what happened at each token: how sure were policy and scorers, and where do they differ?
-- grain: one row per response token and scorer; one with scorer null where no other policy scored it
-- columns: rollout_id, policy, position, token_id, token, sampled, logprob, policy_entropy, policy_tail, policy_top, scorer, scorer_logprob, scorer_entropy, scorer_tail, scorer_top, kl
-- position counts from 0. token is decoded text; of a character that is cut in two, each part is �.
-- sampled: whether the policy drew it; false for the results of tools and the like. Logprobs are at
-- temperature 1, in nats. kl is the token's share of the estimate of KL(policy || scorer) from the
-- sampled tokens (see macro sampled_kl): logprob - scorer_logprob.
-- Entropy, tail (the probability that is not stored) and top (the likeliest token) are those of the
-- stored top-k, of the policy's own at sampling, and of the scorer's: its own top k, or, where only
-- that is stored, its logprobs at the policy's. Of several k, the largest.
WITH scores AS (
    SELECT
        rollout_id, scorer_policy_id, sampled_logprobs,
        topk_summary(token_ids, logprobs, k, counts) AS summary
    FROM (
        SELECT rollout_id, scorer_policy_id, k, counts, token_ids, logprobs, sampled_logprobs
        FROM raw.topk
        QUALIFY row_number() OVER (
            PARTITION BY rollout_id, scorer_policy_id ORDER BY support = 'own' DESC, k DESC
        ) = 1
    )
),
-- One row per scorer beside the policy; a window, so that top-k is read once.
sides AS (
    SELECT
        r.rollout_id, r.policy_id, r.response_token_ids, r.response_mask, r.response_logprobs,
        s.scorer_policy_id, s.sampled_logprobs, s.summary,
        any_value(s.summary) FILTER (s.scorer_policy_id = r.policy_id) OVER of_rollout
            AS own_summary
    FROM raw.rollouts AS r
    LEFT JOIN scores AS s USING (rollout_id)
    WINDOW of_rollout AS (PARTITION BY r.rollout_id)
    QUALIFY
        s.scorer_policy_id <> r.policy_id
        OR coalesce(bool_and(s.scorer_policy_id = r.policy_id) OVER of_rollout, true)
),
positions AS (
    SELECT
        rollout_id,
        policy_id,
        nullif(scorer_policy_id, policy_id) AS scorer_policy_id,
        unnest(range(len(response_token_ids))) AS position,
        unnest(response_token_ids) AS token_id,
        unnest(response_mask) AS in_mask,
        unnest(response_logprobs) AS logprob,
        unnest(own_summary.entropy) AS policy_entropy,
        unnest(own_summary.tail) AS policy_tail,
        unnest(own_summary."top") AS policy_top_id,
        unnest(CASE WHEN scorer_policy_id <> policy_id THEN sampled_logprobs END) AS scorer_logprob,
        unnest(CASE WHEN scorer_policy_id <> policy_id THEN summary.entropy END) AS scorer_entropy,
        unnest(CASE WHEN scorer_policy_id <> policy_id THEN summary.tail END) AS scorer_tail,
        unnest(CASE WHEN scorer_policy_id <> policy_id THEN summary."top" END) AS scorer_top_id
    FROM sides
),
byte_level AS (
    SELECT DISTINCT tokenizer_fingerprint
    FROM raw.vocabularies
    WHERE token = 'Ġ'
)
SELECT
    t.rollout_id,
    coalesce(p.name, t.policy_id) AS policy,
    t.position,
    t.token_id,
    token_text(v.token, b.tokenizer_fingerprint IS NOT NULL) AS token,
    coalesce(t.in_mask, true) AS sampled,
    t.logprob,
    t.policy_entropy,
    t.policy_tail,
    token_text(a.token, b.tokenizer_fingerprint IS NOT NULL) AS policy_top,
    coalesce(s.name, t.scorer_policy_id) AS scorer,
    t.scorer_logprob,
    t.scorer_entropy,
    t.scorer_tail,
    token_text(c.token, b.tokenizer_fingerprint IS NOT NULL) AS scorer_top,
    t.logprob - t.scorer_logprob AS kl
FROM positions AS t
LEFT JOIN raw.policies AS p ON t.policy_id = p.policy_id
LEFT JOIN raw.policies AS s ON t.scorer_policy_id = s.policy_id
LEFT JOIN byte_level AS b ON p.tokenizer_fingerprint = b.tokenizer_fingerprint
LEFT JOIN raw.vocabularies AS v
    ON p.tokenizer_fingerprint = v.tokenizer_fingerprint AND t.token_id = v.token_id
LEFT JOIN raw.vocabularies AS a
    ON p.tokenizer_fingerprint = a.tokenizer_fingerprint AND t.policy_top_id = a.token_id
LEFT JOIN raw.vocabularies AS c
    ON p.tokenizer_fingerprint = c.tokenizer_fingerprint AND t.scorer_top_id = c.token_id
