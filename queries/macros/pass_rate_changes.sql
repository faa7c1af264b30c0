-- Pass rates of policies and of those they were trained from, on the prompts that both were graded
-- on, a prompt counting once. `after` is a policy's id, or NULL: every policy that sampled as a
-- teacher and has a parent; `before` is an id, or NULL: the parent; `for_verifier` and `for_purpose`
-- may be NULL.
-- policy, parent, verifier, prompts, rate_before, rate_after, gain, standard_error.
CREATE MACRO pass_rate_changes(after, before, for_verifier, for_purpose) AS TABLE
    WITH pairs AS (
        SELECT
            policy_id, name,
            coalesce(before, parent_policy_id) AS before_id
        FROM raw.policies
        WHERE
            CASE
                WHEN after IS NULL
                    THEN policy_id IN (SELECT policy_id FROM raw.rollouts WHERE role = 'teacher')
                ELSE policy_id = after
            END
    ),
    means AS MATERIALIZED (
        SELECT r.policy_id, r.prompt_id, w.verifier, avg(w.reward) AS rate
        FROM current_rewards AS w
        INNER JOIN raw.rollouts AS r USING (rollout_id)
        WHERE
            r.policy_id IN (SELECT unnest([policy_id, before_id]) FROM pairs)
            AND (for_verifier IS NULL OR w.verifier = for_verifier)
            AND (for_purpose IS NULL OR r.purpose = for_purpose)
        GROUP BY ALL
    )
    SELECT
        p.name AS policy,
        coalesce(o.name, p.before_id) AS parent,
        a.verifier,
        count(*) AS prompts,
        round(avg(b.rate), 4) AS rate_before,
        round(avg(a.rate), 4) AS rate_after,
        round(avg(a.rate - b.rate), 4) AS gain,
        round(stddev_samp(a.rate - b.rate) / sqrt(count(*)), 4) AS standard_error
    FROM pairs AS p
    INNER JOIN means AS a ON p.policy_id = a.policy_id
    INNER JOIN means AS b
        ON p.before_id = b.policy_id AND a.prompt_id = b.prompt_id AND a.verifier = b.verifier
    LEFT JOIN raw.policies AS o ON p.before_id = o.policy_id
    GROUP BY ALL
