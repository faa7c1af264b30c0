-- question: which runs sampled a dataset's rollouts, with which settings, from which policies?
-- grain: one row per run and policy
-- params:
--   dataset_id: VARCHAR -- the dataset
-- columns: run_id, config, policy_id, policy, policy_kind, tokenizer_fingerprint, tokenizer_hash, template_hash, rows, tools
SELECT
    r.run_id,
    any_value(c.config) AS config,
    r.policy_id,
    any_value(p.name) AS policy,
    any_value(p.kind) AS policy_kind,
    any_value(p.tokenizer_fingerprint) AS tokenizer_fingerprint,
    any_value(p.tokenizer_hash) AS tokenizer_hash,
    any_value(p.template_hash) AS template_hash,
    count(*) AS rows,
    count(q.tools) AS tools
FROM dataset_rows AS d
INNER JOIN rollouts AS r USING (rollout_id)
LEFT JOIN policies AS p ON r.policy_id = p.policy_id
LEFT JOIN runs AS c ON r.run_id = c.run_id
LEFT JOIN prompts AS q ON d.prompt_id = q.prompt_id
WHERE d.dataset_id = $dataset_id
GROUP BY r.run_id, r.policy_id
ORDER BY r.run_id, r.policy_id
