-- question: which responses end in a loop: their last 32 characters stand there four times or more?
-- grain: one row per rollout
-- params: none
-- columns: rollout_id
SELECT rollout_id
FROM rollouts
WHERE
    length(response_text) >= 128
    AND length(replace(right(response_text, 2000), right(response_text, 32), ''))
    <= least(length(response_text), 2000) - 128
