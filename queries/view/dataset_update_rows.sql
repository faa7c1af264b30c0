-- question: what stands in the rows that one update of a dataset consumes?
-- grain: one row per dataset row, in training order
-- params:
--   dataset: VARCHAR -- dataset_id
--   of_update: BIGINT -- the update, from 1
--   n_rows: COUNT -- rows at most
-- columns: row, rollout_id, prompt_id, labelled, policy, prompt, response_text, response_tokens, outcome, reward
SELECT
    d.row, d.rollout_id, d.prompt_id, d.labelled, coalesce(o.name, r.policy_id) AS policy,
    prompt_text(p.messages)[:400] AS prompt, r.response_text[:600] AS response_text,
    r.response_tokens, w.outcome, w.reward
FROM dataset_rows AS d
INNER JOIN rollouts AS r ON d.rollout_id = r.rollout_id
LEFT JOIN policies AS o ON r.policy_id = o.policy_id
LEFT JOIN prompts AS p ON d.prompt_id = p.prompt_id
LEFT JOIN (
    SELECT rollout_id, arg_min(outcome, verifier) AS outcome, arg_min(reward, verifier) AS reward
    FROM current_rewards
    WHERE rollout_id IN (
        SELECT rollout_id FROM dataset_rows WHERE dataset_id = $dataset AND update = $of_update
    )
    GROUP BY rollout_id
) AS w ON d.rollout_id = w.rollout_id
WHERE d.dataset_id = $dataset AND d.update = $of_update
ORDER BY d.row
LIMIT $n_rows
