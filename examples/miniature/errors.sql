-- question: are an arm's mistakes its teacher's?
-- grain: one row per arm
-- params: none
-- columns: arm, wrong, of_the_teacher
-- Of held-out rollouts: the share that is wrong, and, of those, the share whose text a rollout of the
-- RL teacher on the same prompt (4 of them, same seed) has word for word; means over seeds.
WITH texts AS (
    SELECT
        regexp_extract(policy, '^(?:miniature\.)?(.*?)\.s\d+', 1) AS arm,
        regexp_extract(policy, '\.s(\d+)', 1)::INT AS seed,
        prompt_id,
        response_text,
        is_correct(outcome, reward)::INT AS correct
    FROM graded_rollouts
    WHERE purpose = 'eval' AND verifier = 'math-verify'
),

teacher AS (SELECT DISTINCT seed, prompt_id, response_text FROM texts WHERE arm = 'rl-teacher'),

per_seed AS (
    SELECT
        x.arm,
        x.seed,
        avg(1 - x.correct) AS wrong,
        avg((t.seed IS NOT NULL)::INT) FILTER (WHERE x.correct = 0) AS of_the_teacher
    FROM texts AS x
    LEFT JOIN teacher AS t USING (seed, prompt_id, response_text)
    WHERE x.arm <> 'rl-teacher'
    GROUP BY ALL
)
SELECT arm, avg(wrong) AS wrong, avg(of_the_teacher) AS of_the_teacher
FROM per_seed
GROUP BY arm
ORDER BY arm
