-- question: what is the unbiased pass@k of each policy?
-- grain: one row per policy, purpose, split, verifier and sampling settings
-- params:
--   k: COUNT = 1 -- rollouts that may try; refused where no prompt has so many
-- columns: policy, purpose, split, verifier, temperature, top_p, top_k, max_tokens, prompts, left_out, pass_at_k, standard_error
-- Rollouts of other runs and rounds with the same settings count together. Those that nobody judged
-- (timeout, error) are left out. left_out: prompts with fewer than k judged rollouts. standard_error:
-- over prompts.
WITH counts AS (
    SELECT
        policy, purpose, split, verifier, temperature, top_p, top_k, max_tokens, prompt_id,
        count(*) AS n, count(*) FILTER (is_correct(outcome, reward)) AS c
    FROM rollout_rewards
    WHERE is_correct(outcome, reward) IS NOT NULL
    GROUP BY ALL
),
most AS (
    SELECT
        CASE
            WHEN max(n) < $k
                THEN error(concat(
                    'pass@k needs k judged rollouts of a prompt: k = ', $k, ', the most are ', max(n)
                ))::BIGINT
            ELSE max(n)
        END AS n
    FROM counts
),
tried AS (
    SELECT c.* EXCLUDE (n, c), pass_at_k(c.n, c.c, $k) AS value
    FROM counts AS c
    INNER JOIN most AS m ON c.n <= m.n
)
SELECT
    policy, purpose, split, verifier, temperature, top_p, top_k, max_tokens,
    count(value) AS prompts, count(*) - count(value) AS left_out,
    round(avg(value), 4) AS pass_at_k,
    round(mean_interval(list(value), true).standard_error, 4) AS standard_error
FROM tried
GROUP BY ALL
ORDER BY ALL
