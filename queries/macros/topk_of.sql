-- The stored top-k of one rollout, unnested in order:
-- scorer, support, position, sampled_logprob, rank (from 1), token_id, token, logprob.
CREATE MACRO topk_of(rollout) AS TABLE
    SELECT
        p.name AS scorer, t.support, t.position, t.sampled_logprob, t.rank, t.token_id, v.token,
        t.logprob
    FROM (
        SELECT
            scorer_policy_id,
            support,
            i // k AS position,
            i % k + 1 AS rank,
            token_ids[i + 1] AS token_id,
            logprobs[i + 1] AS logprob,
            sampled_logprobs[i // k + 1] AS sampled_logprob
        FROM (SELECT *, unnest(range(len(token_ids))) AS i FROM topk WHERE rollout_id = rollout)
    ) AS t
    LEFT JOIN policies AS p ON t.scorer_policy_id = p.policy_id
    LEFT JOIN vocabularies AS v USING (tokenizer_fingerprint, token_id)
    ORDER BY scorer, t.support, t.position, t.rank
