-- The uses that a control may make of macro stored_candidates' rollouts: each `passes` times, with
-- `slot`, its place by length, and by chance within one length.
-- One row per use; the columns are those that a dataset query of a control has.
CREATE MACRO stored_slots(
    treatment, named, on_policy, on_support, of_role, of_policy, entries, passes, seed
) AS TABLE
    SELECT
        row_number() OVER (
            ORDER BY response_tokens, md5(concat(seed, '/', pass, '/', rollout_id)), rollout_id, pass
        ) - 1 AS slot,
        rollout_id,
        scorer_policy_id,
        support,
        k,
        labelled,
        earlier_uses,
        response_tokens
    FROM
        stored_candidates(treatment, named, on_policy, on_support, of_role, of_policy, entries)
    CROSS JOIN range(passes) AS _ (pass)
