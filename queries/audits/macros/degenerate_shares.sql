-- Shares of rollouts that were cut off, are empty, or end in a loop: their last `tail` characters
-- stand `repeats` times or more, without overlap, in their last `span` characters.
-- policy, purpose, rollouts, truncated, empty, looping, example (a rollout_id).
CREATE MACRO degenerate_shares(wanted, tail, repeats, span) AS TABLE
    WITH judged AS (
        SELECT
            policy_id,
            purpose,
            rollout_id,
            finish_reason = 'length' AS truncated,
            response_tokens = 0 OR trim(response_text, E' \n\t\r') = '' AS empty,
            length(response_text) >= tail * repeats
            AND length(replace(right(response_text, span), right(response_text, tail), ''))
            <= least(length(response_text), span) - tail * repeats AS looping
        FROM raw.rollouts
        WHERE
            wanted IS NULL OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts(wanted))
    )
    SELECT
        coalesce(p.name, j.policy_id) AS policy,
        j.purpose,
        count(*) AS rollouts,
        round(avg(j.truncated::INT), 4) AS truncated,
        round(avg(j.empty::INT), 4) AS empty,
        round(avg(j.looping::INT), 4) AS looping,
        min(j.rollout_id) FILTER (j.truncated OR j.empty OR j.looping) AS example
    FROM judged AS j
    LEFT JOIN raw.policies AS p USING (policy_id)
    GROUP BY ALL
