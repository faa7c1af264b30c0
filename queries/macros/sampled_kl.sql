-- KL between pairs of policies, estimated from stored logprobs: on rollouts of one that the other
-- scored, the mean over sampled tokens of logprob (sampler) - logprob (scorer). In nats per token,
-- that is KL(sampler || scorer) where sampling was plain (temperature 1, no truncation); other
-- rollouts count only if asked for. Of several scores of a rollout, the one of the largest k counts.
-- standard_error is over prompts, whose rollouts are alike: that of a ratio of sums, from each
-- prompt's residual around kl x its tokens, with the factor P / (P - 1) for P prompts. An interval is
-- kl +- t(P - 1) standard errors. Null for a single prompt.
-- sampler_id, scorer_id, prompts, rollouts, tokens, kl, standard_error.
CREATE MACRO sampled_kl(any_sampling) AS TABLE
    WITH by_rollout AS (
        SELECT
            r.policy_id AS sampler_id,
            t.scorer_policy_id AS scorer_id,
            any_value(r.prompt_id) AS prompt_id,
            any_value(coalesce(r.sampled_tokens, r.response_tokens)) AS tokens,
            arg_max(
                list_sum(r.response_logprobs)
                - list_sum(sampled_only(t.sampled_logprobs, r.response_mask)),
                (t.k, t.support)
            ) AS difference
        FROM raw.topk AS t
        INNER JOIN raw.rollouts AS r USING (rollout_id)
        WHERE
            t.scorer_policy_id <> r.policy_id
            AND coalesce(r.sampled_tokens, r.response_tokens) > 0
            AND r.response_logprobs IS NOT NULL
            AND (any_sampling OR plain_sampling(r.temperature, r.top_p, r.top_k))
        GROUP BY r.rollout_id, r.policy_id, t.scorer_policy_id
    ),
    by_prompt AS (
        SELECT
            sampler_id, scorer_id, count(*) AS rollouts, sum(tokens) AS tokens,
            sum(difference) AS difference
        FROM by_rollout
        GROUP BY sampler_id, scorer_id, prompt_id
    )
    SELECT
        sampler_id,
        scorer_id,
        count(*) AS prompts,
        sum(rollouts)::BIGINT AS rollouts,
        sum(tokens)::BIGINT AS tokens,
        sum(difference) / sum(tokens) AS kl,
        CASE
            WHEN count(*) > 1 THEN
                sqrt(count(*) / (count(*) - 1) * greatest(0,
                    sum(difference * difference)
                    - 2 * sum(difference) / sum(tokens) * sum(difference * tokens)
                    + (sum(difference) / sum(tokens)) ** 2 * sum(tokens * tokens)
                )) / sum(tokens)
        END AS standard_error
    FROM by_prompt
    GROUP BY sampler_id, scorer_id
