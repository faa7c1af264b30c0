-- question: which rollouts are the 5% with the highest KL per token to a policy that scored them?
-- grain: one row per rollout
-- params: none
-- columns: rollout_id
WITH differences AS (
    SELECT
        r.rollout_id,
        (
            list_sum(r.response_logprobs)
            - list_sum(sampled_only(t.sampled_logprobs, r.response_mask))
        ) / coalesce(r.sampled_tokens, r.response_tokens) AS kl
    FROM topk AS t
    INNER JOIN rollouts AS r USING (rollout_id)
    WHERE
        t.scorer_policy_id <> r.policy_id
        AND coalesce(r.sampled_tokens, r.response_tokens) > 0
)
SELECT DISTINCT rollout_id
FROM differences
QUALIFY percent_rank() OVER (ORDER BY kl) >= 0.95
