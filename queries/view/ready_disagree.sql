-- question: on which rollouts do verifiers disagree, be it two versions of one?
-- grain: one row per rollout
-- params: none
-- columns: rollout_id
SELECT rollout_id
FROM verdicts_of_several(NULL, true)
GROUP BY rollout_id
HAVING count(DISTINCT is_correct(outcome, reward)) > 1
