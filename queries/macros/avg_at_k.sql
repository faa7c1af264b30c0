-- avg@k: mean reward over the first k rollouts of each prompt, then over prompts, by policy.
-- One row per policy, purpose, split and verifier; prompts with fewer than k rollouts are left out.
CREATE MACRO avg_at_k(k) AS TABLE
    WITH prompt_means AS (
        SELECT policy, purpose, split, verifier, prompt_id, avg(reward) AS mean_reward
        FROM rollout_rewards
        WHERE sample_index < k AND reward IS NOT NULL
        GROUP BY ALL
        HAVING count(*) = k
    )
    SELECT policy, purpose, split, verifier, count(*) AS prompts, avg(mean_reward) AS avg_at_k
    FROM prompt_means
    GROUP BY ALL
    ORDER BY ALL
