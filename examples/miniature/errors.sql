-- question: how often is each evaluated policy right, and are its mistakes its teacher's?
-- grain: one row per policy
-- params:
--   teacher: VARCHAR -- name of the teacher
-- columns: policy, prompts, accuracy, truncated, copied
-- accuracy: avg@n, the mean over prompts and rollouts. copied: of the wrong rollouts, the share whose text
-- a rollout of the teacher on the same prompt has word for word.
WITH texts AS (
    SELECT
        policy, prompt_id, response_text, finish_reason,
        coalesce(is_correct(outcome, reward), false)::INT AS correct
    FROM graded_rollouts
    WHERE purpose = 'eval'
),
teacher AS (SELECT DISTINCT prompt_id, response_text FROM texts WHERE policy = $teacher)
SELECT
    x.policy,
    count(DISTINCT x.prompt_id) AS prompts,
    avg(x.correct) AS accuracy,
    avg((x.finish_reason = 'length')::INT) AS truncated,
    avg((t.prompt_id IS NOT NULL)::INT) FILTER (WHERE x.correct = 0) AS copied
FROM texts AS x
LEFT JOIN teacher AS t USING (prompt_id, response_text)
GROUP BY x.policy
ORDER BY x.policy
