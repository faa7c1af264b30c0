-- How the rollouts of eval runs did on each prompt: the first `n_samples` of a prompt by
-- sample_index, as the verifier graded them; prompts with fewer are left out. `of_runs` and
-- `of_prompts` are ids comma-separated, or NULL: all.
-- `majority` is the reward of the answer that most rollouts give, the mean over answers that tie.
-- An answer is the text that the verifier extracted; rollouts that it could not judge do not vote,
-- and a prompt without votes scores 0. NULL where the verifier extracts no answers at all.
-- Rollouts that nobody judged (timeout, error) are left out of rollouts, correct and reward, and
-- counted in `unjudged`; a prompt without a judged one is left out.
-- `rewards_are_shares`: whether every reward lies between 0 and 1.
-- run_id, policy_id, prompt_id, rollouts, correct, reward, rewards_are_shares, majority, tokens,
-- truncated, unjudged.
CREATE MACRO eval_prompts(of_runs, of_prompts, n_samples, for_verifier) AS TABLE
    WITH taken AS MATERIALIZED (
        SELECT
            r.run_id, r.policy_id, r.prompt_id, r.response_tokens, r.finish_reason, w.reward,
            w.outcome, w.outcome IN ('correct', 'wrong', 'scored', 'reported') AS has_answer,
            CASE WHEN has_answer THEN nullif(trim(w.extracted), '') END AS vote
        FROM raw.rollouts AS r
        INNER JOIN current_rewards AS w USING (rollout_id)
        WHERE
            r.purpose = 'eval'
            AND r.sample_index < n_samples
            AND w.verifier = for_verifier
            AND (
                of_runs IS NULL
                OR r.run_id IN (SELECT unnest(string_split(of_runs, ',')))
            )
            AND (
                of_prompts IS NULL
                OR r.prompt_id IN (SELECT unnest(string_split(of_prompts, ',')))
            )
    ),
    voting AS (
        SELECT run_id, bool_or(vote IS NOT NULL) OR NOT bool_or(has_answer) AS has_votes
        FROM taken
        GROUP BY run_id
    ),
    winners AS (
        SELECT run_id, prompt_id, avg(reward) AS reward
        FROM taken
        WHERE vote IS NOT NULL
        GROUP BY run_id, prompt_id, vote
        QUALIFY rank() OVER (PARTITION BY run_id, prompt_id ORDER BY count(*) DESC) = 1
    ),
    majorities AS (
        SELECT run_id, prompt_id, avg(reward) AS majority
        FROM winners
        GROUP BY run_id, prompt_id
    ),
    prompts_of AS (
        SELECT
            run_id,
            any_value(policy_id) AS policy_id,
            prompt_id,
            count(*) AS graded,
            count(reward) AS rollouts,
            count(*) FILTER (is_correct(outcome, reward)) AS correct,
            avg(reward) AS reward,
            coalesce(bool_and(reward BETWEEN 0 AND 1), true) AS rewards_are_shares,
            avg(response_tokens) AS tokens,
            avg((finish_reason = 'length')::INT) AS truncated
        FROM taken
        GROUP BY run_id, prompt_id
    )
    SELECT
        p.run_id, p.policy_id, p.prompt_id, p.rollouts, p.correct, p.reward, p.rewards_are_shares,
        CASE WHEN v.has_votes THEN coalesce(m.majority, 0) END AS majority,
        p.tokens, p.truncated, p.graded - p.rollouts AS unjudged
    FROM prompts_of AS p
    INNER JOIN voting AS v USING (run_id)
    LEFT JOIN majorities AS m ON p.run_id = m.run_id AND p.prompt_id = m.prompt_id
    WHERE p.graded = n_samples AND p.rollouts > 0
