-- question: are right answers longer or shorter than wrong ones?
-- grain: one row per policy, purpose and reward
-- params:
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
-- columns: policy, purpose, reward, rollouts, mean_tokens, median_tokens, longest, truncated, correlation
-- correlation: Pearson's, of reward and response tokens over the policy's rollouts of that purpose.
WITH judged AS (
    SELECT policy, purpose, reward, response_tokens, finish_reason
    FROM graded_rollouts
    WHERE reward IS NOT NULL AND ($purpose IS NULL OR purpose = $purpose)
),
correlations AS (
    SELECT policy, purpose, round(corr(reward, response_tokens), 4) AS correlation
    FROM judged
    GROUP BY policy, purpose
)
SELECT
    j.policy, j.purpose, j.reward, count(*) AS rollouts,
    round(avg(j.response_tokens), 1) AS mean_tokens,
    round(median(j.response_tokens), 1) AS median_tokens,
    max(j.response_tokens) AS longest,
    round(avg((j.finish_reason = 'length')::INT), 4) AS truncated,
    any_value(c.correlation) AS correlation
FROM judged AS j
INNER JOIN correlations AS c
    ON j.policy IS NOT DISTINCT FROM c.policy AND j.purpose = c.purpose
GROUP BY j.policy, j.purpose, j.reward
ORDER BY ALL
