-- KL between pairs of policies, estimated from stored logprobs: on rollouts of one that the other
-- scored, the mean over tokens of logprob (sampler) - logprob (scorer). In nats per token, that is
-- KL(sampler || scorer) where sampling was plain (temperature 1, no truncation); other rollouts
-- count only if asked for.
-- sampler_id, scorer_id, rollouts, tokens, kl, standard_error (over rollouts).
CREATE MACRO sampled_kl(any_sampling) AS TABLE
    WITH scored AS (
        SELECT rollout_id, scorer_policy_id, any_value(list_sum(sampled_logprobs)) AS logprob
        FROM raw.topk
        GROUP BY ALL
    ),
    sums AS (
        SELECT
            r.policy_id AS sampler_id,
            s.scorer_policy_id AS scorer_id,
            r.response_tokens AS tokens,
            list_sum(r.response_logprobs) - s.logprob AS difference
        FROM scored AS s
        INNER JOIN raw.rollouts AS r USING (rollout_id)
        WHERE
            s.scorer_policy_id <> r.policy_id
            AND r.response_tokens > 0
            AND (any_sampling OR (r.temperature = 1 AND r.top_p = 1 AND r.top_k <= 0))
    )
    SELECT
        sampler_id,
        scorer_id,
        count(*) AS rollouts,
        sum(tokens)::BIGINT AS tokens,
        sum(difference) / sum(tokens) AS kl,
        -- The error of a ratio of sums: residuals of each rollout around kl x its tokens.
        sqrt(greatest(0,
            sum(difference * difference)
            - 2 * sum(difference) / sum(tokens) * sum(difference * tokens)
            + (sum(difference) / sum(tokens)) ** 2 * sum(tokens * tokens)
        )) / sum(tokens) AS standard_error
    FROM sums
    GROUP BY sampler_id, scorer_id
