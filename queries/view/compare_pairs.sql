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
-- The wide columns are looked up for the rows that are shown alone.
WITH judged AS (
    SELECT
        policy, prompt_id, sample_index,
        arg_max(
            struct_pack(place := place, correct := is_correct(outcome, reward)),
            (created_at, rollout_id)
        ) AS newest
    FROM chosen_rows
    WHERE
        policy IN ($of_a, $of_b)
        AND purpose = $purpose
        AND is_correct(outcome, reward) IS NOT NULL
    GROUP BY policy, prompt_id, sample_index
),
shown AS (
    SELECT a.newest.place AS left_place, b.newest.place AS right_place
    FROM judged AS a
    INNER JOIN judged AS b
        ON a.prompt_id = b.prompt_id AND a.sample_index = b.sample_index
    WHERE
        a.policy = $of_a AND b.policy = $of_b
        AND a.newest.correct = $a_right AND b.newest.correct = $b_right
    ORDER BY a.prompt_id, a.sample_index
    LIMIT $n_rows
    OFFSET $skipped
)
SELECT
    a.prompt_id, a.sample_index, a.answer, a.rollout_id AS left_id, b.rollout_id AS right_id,
    a.extracted AS left_read, b.extracted AS right_read
FROM shown AS s
INNER JOIN chosen_rows AS a ON s.left_place = a.place
INNER JOIN chosen_rows AS b ON s.right_place = b.place
ORDER BY a.prompt_id, a.sample_index
