-- question: which logprobs came from servers, of a sample of rollouts per policy?
-- grain: one row per rollout and policy, sampled or scored
-- params:
--   rollouts: BIGINT -- most rollouts of each policy that sampled, and of each that scored
-- columns: policy_id, policy, kind, made, rollout_id, endpoint, prompt_token_ids, response_token_ids, logprobs
-- Ids are hashes: the first of them are a fair sample.
WITH sampled AS (
    SELECT policy_id, rollout_id, endpoint
    FROM rollouts
    WHERE
        endpoint IS NOT NULL
        AND response_logprobs IS NOT NULL
        AND prompt_token_ids IS NOT NULL
        AND response_mask IS NULL
        AND response_tokens > 0
    QUALIFY row_number() OVER (PARTITION BY policy_id ORDER BY rollout_id) <= $rollouts
),
scored AS (
    SELECT t.scorer_policy_id AS policy_id, t.rollout_id, t.k, t.support
    FROM topk AS t
    INNER JOIN runs AS r USING (run_id)
    WHERE r.kind = 'score' AND json_extract_string(r.config, '$.engine') = 'server'
    QUALIFY
        row_number() OVER (PARTITION BY t.scorer_policy_id ORDER BY t.rollout_id, t.k, t.support)
        <= $rollouts
)
SELECT
    s.policy_id, p.name AS policy, p.kind, 'sampled' AS made, s.rollout_id, s.endpoint,
    r.prompt_token_ids, r.response_token_ids, r.response_logprobs AS logprobs
FROM sampled AS s
INNER JOIN rollouts AS r USING (rollout_id)
INNER JOIN policies AS p ON s.policy_id = p.policy_id
UNION ALL
SELECT
    s.policy_id, p.name, p.kind, 'scored', s.rollout_id, NULL,
    r.prompt_token_ids, r.response_token_ids, t.sampled_logprobs
FROM scored AS s
INNER JOIN topk AS t
    ON
        s.rollout_id = t.rollout_id AND s.policy_id = t.scorer_policy_id
        AND s.support = t.support AND s.k = t.k
INNER JOIN rollouts AS r ON s.rollout_id = r.rollout_id
INNER JOIN policies AS p ON s.policy_id = p.policy_id
WHERE r.prompt_token_ids IS NOT NULL
ORDER BY policy_id, made, rollout_id
