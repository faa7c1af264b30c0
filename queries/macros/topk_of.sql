-- The stored top-k of one rollout, unnested in order:
-- scorer, support, position, sampled_logprob, rank (from 1), token_id, token, logprob.
-- Rows are put in order before they are unnested, and tokens are looked up in one list per
-- tokenizer, so a LIMIT stops after the first entries.
CREATE MACRO topk_of(rollout) AS TABLE
    SELECT
        scorer,
        support,
        position,
        sampled_logprobs[position + 1] AS sampled_logprob,
        rank,
        token_id,
        tokens[token_id + 1] AS token,
        logprob
    FROM (
        SELECT
            scorer,
            support,
            sampled_logprobs,
            tokens,
            coalesce(position, entry // k) AS position,
            coalesce(rank, entry % k + 1) AS rank,
            token_id,
            logprob
        FROM (
            SELECT
                scorer,
                support,
                k,
                sampled_logprobs,
                tokens,
                unnest(range(len(token_ids))) AS entry,
                unnest(token_ids) AS token_id,
                unnest(logprobs) AS logprob,
                -- of ragged rows alone: null lists unnest as nulls beside the others
                unnest(flatten(list_transform(counts, lambda n, t: list_resize([t - 1], n, t - 1))))
                    AS position,
                unnest(flatten(list_transform(counts, lambda n: range(1, n + 1)))) AS rank
            FROM (
                SELECT p.name AS scorer, t.*, v.tokens
                FROM topk AS t
                LEFT JOIN policies AS p ON t.scorer_policy_id = p.policy_id
                LEFT JOIN (
                    SELECT i.tokenizer_fingerprint, list(token ORDER BY i.token_id) AS tokens
                    FROM (
                        SELECT tokenizer_fingerprint, unnest(range(max(token_id) + 1)) AS token_id
                        FROM vocabularies
                        GROUP BY tokenizer_fingerprint
                    ) AS i
                    LEFT JOIN vocabularies USING (tokenizer_fingerprint, token_id)
                    GROUP BY i.tokenizer_fingerprint
                ) AS v USING (tokenizer_fingerprint)
                WHERE t.rollout_id = rollout
                ORDER BY scorer, t.support
            )
        )
    )
