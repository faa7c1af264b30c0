-- skipped when: no rollouts were sampled at a temperature above 0
SELECT count(*) AS examined
FROM raw.rollouts
WHERE
    temperature > 0
    AND ($datasets = 'none' OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts($datasets)))
