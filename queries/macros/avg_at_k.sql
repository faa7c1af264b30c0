-- avg@k: mean reward over the first k rollouts of each prompt in each run and round, then over
-- prompts. Prompts with fewer than k graded rollouts are left out; rollouts that nobody judged
-- (timeout, error) are left out of the mean and counted.
-- policy, purpose, split, verifier, temperature, top_p, top_k, max_tokens, prompts, unjudged, avg_at_k.
CREATE MACRO avg_at_k(k) AS TABLE
    WITH prompt_means AS (
        SELECT
            policy, purpose, split, verifier, temperature, top_p, top_k AS sampling_top_k,
            max_tokens, run_id, round, prompt_id, avg(reward) AS mean_reward,
            count(*) - count(reward) AS unjudged
        FROM rollout_rewards
        WHERE sample_index < k
        GROUP BY ALL
        HAVING count(*) = k AND count(reward) > 0
    )
    SELECT
        policy, purpose, split, verifier, temperature, top_p, sampling_top_k AS top_k, max_tokens,
        count(*) AS prompts, sum(unjudged)::BIGINT AS unjudged, avg(mean_reward) AS avg_at_k
    FROM prompt_means
    GROUP BY policy, purpose, split, verifier, temperature, top_p, sampling_top_k, max_tokens
    ORDER BY ALL
