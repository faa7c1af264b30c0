-- question: which pairs of rollouts of two policies are right and wrong in one way?
-- grain: one row per pair, see compare_counts
-- params:
--   of_a: VARCHAR -- a policy's name
--   of_b: VARCHAR -- another's
--   purpose: train|eval -- of the rollouts
--   a_right: BOOLEAN -- whether the first one's is right
--   b_right: BOOLEAN -- whether the second one's is
--   n_rows: COUNT -- pairs
--   skipped: BIGINT -- pairs before them
-- columns: prompt_id, sample_index, answer, left_id, right_id, left_read, right_read
WITH judged AS (
    SELECT
        policy, prompt_id, sample_index,
        arg_max(is_correct(outcome, reward), (created_at, rollout_id)) AS correct,
        arg_max(rollout_id, (created_at, rollout_id)) AS rollout_id,
        arg_max(extracted, (created_at, rollout_id)) AS extracted,
        any_value(answer) AS answer
    FROM chosen_rows
    WHERE
        policy IN ($of_a, $of_b)
        AND purpose = $purpose
        AND is_correct(outcome, reward) IS NOT NULL
    GROUP BY policy, prompt_id, sample_index
)
SELECT
    a.prompt_id, a.sample_index, a.answer, a.rollout_id AS left_id, b.rollout_id AS right_id,
    a.extracted AS left_read, b.extracted AS right_read
FROM judged AS a
INNER JOIN judged AS b
    ON a.prompt_id = b.prompt_id AND a.sample_index = b.sample_index
WHERE
    a.policy = $of_a AND b.policy = $of_b AND a.correct = $a_right AND b.correct = $b_right
ORDER BY a.prompt_id, a.sample_index
LIMIT $n_rows
OFFSET $skipped
