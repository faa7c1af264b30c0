-- question: on the same prompts, where are two policies right and where wrong?
-- grain: one row per combination that occurs
-- params:
--   of_a: VARCHAR -- a policy's name
--   of_b: VARCHAR -- another's
--   purpose: train|eval -- of the rollouts
-- columns: a_correct, b_correct, pairs, prompts
-- A pair: one rollout of each for the same prompt and sample index; of several, the newest.
WITH judged AS (
    SELECT
        policy, prompt_id, sample_index,
        arg_max(is_correct(outcome, reward), (created_at, rollout_id)) AS correct
    FROM chosen_rows
    WHERE
        policy IN ($of_a, $of_b)
        AND purpose = $purpose
        AND is_correct(outcome, reward) IS NOT NULL
    GROUP BY policy, prompt_id, sample_index
)
SELECT
    a.correct AS a_correct, b.correct AS b_correct, count(*) AS pairs,
    count(DISTINCT a.prompt_id) AS prompts
FROM judged AS a
INNER JOIN judged AS b
    ON a.prompt_id = b.prompt_id AND a.sample_index = b.sample_index
WHERE a.policy = $of_a AND b.policy = $of_b
GROUP BY a_correct, b_correct
