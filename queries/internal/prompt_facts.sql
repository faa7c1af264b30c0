-- question: what is known of the prompts that a verifier grades responses to?
-- grain: one row per prompt
-- params:
--   prompts: VARCHAR -- a list of prompt ids
--   context: BOOLEAN -- whether messages, task and meta are asked for; else they are null
-- columns: prompt_id, answer, answer_type, answers, messages, source, task, meta
SELECT
    prompt_id, answer, answer_type, answers,
    CASE WHEN $context THEN messages END AS messages,
    source,
    CASE WHEN $context THEN task END AS task,
    CASE WHEN $context THEN meta END AS meta
FROM prompts
SEMI JOIN (SELECT unnest($prompts::VARCHAR[]) AS prompt_id) AS asked USING (prompt_id)
