-- question: how well does each arm do, over seeds?
-- grain: one row per arm
-- params: none
-- columns: arm, seeds, mean, sd, accuracies
-- Accuracy is avg@n on the held-out prompts: the mean over prompts and rollouts. A policy's name is
-- its recipe and stage (of the models alone their name), .sSEED and, for the last of several rounds, .rROUND.
WITH per_seed AS (
    SELECT
        regexp_extract(policy, '^(?:miniature\.)?(.*?)\.s\d+', 1) AS arm,
        regexp_extract(policy, '\.s(\d+)', 1)::INT AS seed,
        avg(is_correct(outcome, reward)::INT) AS accuracy
    FROM graded_rollouts
    WHERE purpose = 'eval' AND verifier = 'math-verify'
    GROUP BY ALL
)
SELECT
    arm,
    count(*) AS seeds,
    avg(accuracy) AS mean,
    stddev_samp(accuracy) AS sd,
    list(accuracy ORDER BY seed) AS accuracies
FROM per_seed
GROUP BY arm
ORDER BY arm
