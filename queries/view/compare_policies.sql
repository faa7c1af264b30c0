-- question: which policies have graded rollouts that another's can be held against?
-- grain: one row per policy and purpose, best first
-- params: none
-- columns: policy, purpose, prompts, rollouts, reward
-- chosen_rows is the viewer's own: the rows of rollout_list that a filter chooses.
SELECT
    policy, purpose, count(DISTINCT prompt_id) AS prompts, count(*) AS rollouts,
    avg(reward) AS reward
FROM chosen_rows
WHERE is_correct(outcome, reward) IS NOT NULL AND policy IS NOT NULL
GROUP BY policy, purpose
ORDER BY purpose, reward DESC, policy
