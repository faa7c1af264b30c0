-- question: which rollouts go round in circles, are cut off or empty?
-- grain: one row per rollout that does, those that repeat most first
-- params:
--   policy: POLICY = NULL -- the sampling policy; NULL: every one
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
--   tail: COUNT = 32 -- characters at the end of a response that a loop repeats
--   repeats: COUNT = 4 -- how often they stand in the response at least
-- columns: rollout_id, policy, purpose, what, times, response_tokens, ending
-- times: how often the last `tail` characters stand in the response. ending: its last 80 characters.
WITH looked_at AS (
    SELECT
        r.rollout_id, coalesce(p.name, r.policy_id) AS policy, r.purpose, r.response_tokens,
        r.response_text, r.finish_reason,
        CASE
            WHEN length(r.response_text) >= $tail * $repeats
                THEN (
                    length(r.response_text)
                    - length(replace(r.response_text, right(r.response_text, $tail), ''))
                ) // $tail
            ELSE 0
        END AS times
    FROM rollouts AS r
    LEFT JOIN policies AS p USING (policy_id)
    WHERE
        ($policy IS NULL OR r.policy_id = $policy) AND ($purpose IS NULL OR r.purpose = $purpose)
)
SELECT
    rollout_id, policy, purpose,
    CASE
        WHEN times >= $repeats THEN 'loops'
        WHEN finish_reason = 'length' THEN 'cut off'
        ELSE 'empty'
    END AS what,
    times, response_tokens, right(response_text, 80) AS ending
FROM looked_at
WHERE
    times >= $repeats
    OR finish_reason = 'length'
    OR trim(response_text, E' \n\t\r') = ''
ORDER BY times DESC, what, rollout_id
