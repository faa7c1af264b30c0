-- question: which labelled prompts do some rollouts answer that were judged?
-- grain: one row per prompt
-- params:
--   by_gold: BOOLEAN -- every labelled prompt, judged or not: their gold answers themselves are read
-- columns: prompt_id
-- _candidates: rollout_id, before the dataset is stored.
SELECT DISTINCT r.prompt_id
FROM rollouts AS r
INNER JOIN prompts AS p USING (prompt_id)
WHERE
    p.answer_type <> 'none'
    AND r.rollout_id IN (SELECT rollout_id FROM _candidates)
    AND ($by_gold OR r.rollout_id IN (SELECT rollout_id FROM current_rewards))
ORDER BY r.prompt_id
