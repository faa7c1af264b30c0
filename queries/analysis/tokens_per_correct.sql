-- question: how many tokens does each policy write for a right answer?
-- grain: one row per policy and purpose
-- params:
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
-- columns: policy, purpose, rollouts, correct, tokens, tokens_per_correct, tokens_of_correct
-- tokens_per_correct: all tokens by right answers, the wrong ones' tokens included. tokens_of_correct:
-- mean length of the right answers alone.
SELECT
    policy, purpose, count(*) AS rollouts,
    count(*) FILTER (is_correct(outcome, reward)) AS correct,
    sum(response_tokens)::BIGINT AS tokens,
    round(
        sum(response_tokens) / nullif(count(*) FILTER (is_correct(outcome, reward)), 0), 1
    ) AS tokens_per_correct,
    round(avg(response_tokens) FILTER (is_correct(outcome, reward)), 1) AS tokens_of_correct
FROM graded_rollouts
WHERE is_correct(outcome, reward) IS NOT NULL AND ($purpose IS NULL OR purpose = $purpose)
GROUP BY policy, purpose
ORDER BY policy, purpose
