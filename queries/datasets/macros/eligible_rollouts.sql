-- Train rollouts that a dataset may take: of these generate runs (ids comma-separated), of this
-- on-policy round, not cut off at max_tokens where `finished` is asked for, no longer than
-- `longest` response tokens. NULL: no filter.
-- rollout_id, group_id, prompt_id, policy_id, round, sample_index, response_tokens.
CREATE MACRO eligible_rollouts(of_runs, of_round, finished, longest) AS TABLE
    SELECT
        rollout_id, group_id, prompt_id, policy_id, round, sample_index, response_tokens
    FROM raw.rollouts
    WHERE
        purpose = 'train'
        AND (of_runs IS NULL OR list_contains(string_split(of_runs, ','), run_id))
        AND (of_round IS NULL OR round = of_round)
        AND (NOT finished OR finish_reason = 'stop')
        AND (longest IS NULL OR response_tokens <= longest)
