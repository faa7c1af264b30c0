-- question: how many updates has a training run recorded, and how many tokens are in them?
-- grain: one row
-- params:
--   run: VARCHAR -- the run
-- columns: updates, response_tokens, prompt_tokens
SELECT
    count(*) AS updates,
    coalesce(sum(response_tokens), 0) AS response_tokens,
    coalesce(sum(prompt_tokens), 0) AS prompt_tokens
FROM updates
WHERE run_id = $run
