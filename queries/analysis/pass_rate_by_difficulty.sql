-- question: how often is each policy right, on easy prompts and on hard ones?
-- grain: one row per policy and band of difficulty, the hardest first
-- params:
--   reference: POLICY = NULL -- whose pass rate says how hard a prompt is; NULL: all policies' together
--   purpose: train|eval|NULL = eval -- rollouts that count; NULL: both
--   bands: COUNT = 4 -- bands of equal width between a pass rate of 0 and 1
-- columns: policy, reference_rate, prompts, rollouts, pass_rate, mean_tokens
-- reference_rate: from (included) to (excluded, but 1) of the prompt's pass rate by the reference.
WITH judged AS (
    SELECT
        policy, policy_id, prompt_id, response_tokens,
        is_correct(outcome, reward)::INT AS correct
    FROM graded_rollouts
    WHERE
        is_correct(outcome, reward) IS NOT NULL AND ($purpose IS NULL OR purpose = $purpose)
),
difficulty AS (
    SELECT prompt_id, least(floor(avg(correct) * $bands), $bands - 1)::BIGINT AS band
    FROM judged
    WHERE $reference IS NULL OR policy_id = $reference
    GROUP BY prompt_id
)
SELECT
    j.policy,
    format('{:.2f}-{:.2f}', d.band / $bands, (d.band + 1) / $bands) AS reference_rate,
    count(DISTINCT j.prompt_id) AS prompts,
    count(*) AS rollouts,
    round(avg(j.correct), 4) AS pass_rate,
    round(avg(j.response_tokens), 1) AS mean_tokens
FROM judged AS j
INNER JOIN difficulty AS d USING (prompt_id)
GROUP BY j.policy, d.band
ORDER BY d.band, j.policy
