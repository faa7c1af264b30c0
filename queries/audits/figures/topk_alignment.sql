-- skipped when: no top-k is stored
SELECT count(*) AS examined, count(DISTINCT scorer_policy_id) AS scorers
FROM raw.topk
WHERE $datasets = 'none' OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts($datasets))
