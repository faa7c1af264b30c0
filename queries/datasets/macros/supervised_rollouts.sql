-- The rollouts of a policy that warmup and SFT may imitate, `chosen` those that are graded as asked,
-- of prompts whose pass rate lies between two limits. NULL: no filter.
-- `labelled` is true where a gold answer decides whether or how likely a rollout is taken; only then
-- are reward and pass_rate given. `weight` is p(1 - p) of the pass rate p for `paced`, else 1.
-- rollout_id, prompt_id, response_tokens, reward, pass_rate, weight, labelled, chosen.
CREATE MACRO supervised_rollouts(
    of_policy, of_runs, judge, correct, finished, longest, least_rate, most_rate, rate_of, weighing
) AS TABLE
    SELECT
        r.rollout_id,
        r.prompt_id,
        r.response_tokens,
        CASE
            WHEN correct OR weighing <> 'none' OR least_rate IS NOT NULL OR most_rate IS NOT NULL
                THEN w.reward
        END AS reward,
        CASE
            WHEN correct OR weighing <> 'none' OR least_rate IS NOT NULL OR most_rate IS NOT NULL
                THEN f.pass_rate
        END AS pass_rate,
        CASE WHEN weighing = 'paced' THEN f.pass_rate * (1 - f.pass_rate) ELSE 1 END AS weight,
        p.answer_type <> 'none'
        AND (correct OR weighing <> 'none' OR least_rate IS NOT NULL OR most_rate IS NOT NULL)
            AS labelled,
        (NOT correct OR is_correct(w.outcome, w.reward))
        AND (least_rate IS NULL OR f.pass_rate >= least_rate)
        AND (most_rate IS NULL OR f.pass_rate <= most_rate) AS chosen
    FROM eligible_rollouts(of_runs, NULL, finished, longest) AS r
    INNER JOIN raw.prompts AS p USING (prompt_id)
    LEFT JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = judge
    LEFT JOIN pass_rates_of(coalesce(rate_of, of_policy), judge) AS f ON r.prompt_id = f.prompt_id
    WHERE
        r.policy_id = of_policy
        AND r.response_tokens > 0
