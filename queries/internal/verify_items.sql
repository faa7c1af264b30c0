-- question: what does a verifier see of each rollout that it has to grade?
-- grain: one row per pending rollout
-- params:
--   tokens: BOOLEAN -- whether token ids are asked for; else they are null
-- columns: rollout_id, prompt_id, attempt, response_text, response_token_ids
-- Temporary table _pending: see verify_pending.
SELECT
    p.rollout_id, r.prompt_id, p.attempt, r.response_text,
    CASE WHEN $tokens THEN r.response_token_ids END AS response_token_ids
FROM _pending AS p
INNER JOIN rollouts AS r USING (rollout_id)
