-- The tokens of one rollout in order, with the policy's logprob: position, token_id, token, logprob.
CREATE MACRO response_tokens_of(rollout) AS TABLE
    SELECT t.position, t.token_id, v.token, t.logprob
    FROM (
        SELECT
            policy_id,
            unnest(range(len(response_token_ids))) AS position,
            unnest(response_token_ids) AS token_id,
            unnest(response_logprobs) AS logprob
        FROM rollouts
        WHERE rollout_id = rollout
    ) AS t
    LEFT JOIN policies AS p USING (policy_id)
    LEFT JOIN vocabularies AS v USING (tokenizer_fingerprint, token_id)
    ORDER BY t.position
