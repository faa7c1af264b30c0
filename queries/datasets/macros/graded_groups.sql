-- Rollouts of a learner whose whole group is graded, with their rewards: of these generate runs (ids
-- comma-separated) and round, at most `most_lag` updates behind it, in groups of `size` rollouts, or,
-- where that is NULL, of two and more. No reward decides which.
-- A group is what was sampled together (rollouts.group_id). reward is null where nothing was judged.
-- Rewards enter as decimals of nine places, whose sums are exact in any order of the rows.
-- rollout_id, group_id, prompt_id, round, sample_index, response_tokens, lag, reward.
CREATE MACRO graded_groups(learner, judge, most_lag, of_runs, of_round, size) AS TABLE
    SELECT
        r.rollout_id, r.group_id, r.prompt_id, r.round, r.sample_index, r.response_tokens, v.lag,
        w.reward::DECIMAL(18, 9) AS reward
    FROM eligible_rollouts(of_runs, of_round, false, NULL) AS r
    INNER JOIN policy_lags(learner) AS v ON r.policy_id = v.earlier_policy_id
    LEFT JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = judge
    WHERE v.lag <= most_lag
    QUALIFY
        count(*) OVER (PARTITION BY r.group_id) = count(w.verifier) OVER (PARTITION BY r.group_id)
        AND CASE
            WHEN size IS NULL THEN count(*) OVER (PARTITION BY r.group_id) > 1
            ELSE count(*) OVER (PARTITION BY r.group_id) = size
        END
