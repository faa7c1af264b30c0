-- question: what do some prompts say?
-- grain: one row per prompt
-- params:
--   prompts: VARCHAR -- prompt_ids, a list
-- columns: prompt_id, text
SELECT prompt_id, prompt_text(messages)[:400] AS text
FROM raw.prompts
WHERE prompt_id IN (SELECT unnest($prompts))
