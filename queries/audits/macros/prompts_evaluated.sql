-- Prompts that models are evaluated on: every prompt of the named splits (comma-separated), and
-- every prompt that an eval rollout answers. prompt_id, source, split, text (normalised).
CREATE MACRO prompts_evaluated(splits) AS TABLE
    SELECT prompt_id, source, split, normalised_text(prompt_text(messages)) AS text
    FROM raw.prompts
    WHERE
        list_contains(string_split(splits, ','), split)
        OR prompt_id IN (SELECT prompt_id FROM raw.rollouts WHERE purpose = 'eval')
