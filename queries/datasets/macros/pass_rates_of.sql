-- How often a policy's graded train rollouts solve each prompt.
-- prompt_id, pass_rate.
CREATE MACRO pass_rates_of(of_policy, judge) AS TABLE
    SELECT r.prompt_id, avg(is_correct(w.outcome, w.reward)::INT) AS pass_rate
    FROM raw.rollouts AS r
    INNER JOIN current_rewards AS w USING (rollout_id)
    WHERE r.purpose = 'train' AND r.policy_id = of_policy AND w.verifier = judge
    GROUP BY r.prompt_id
