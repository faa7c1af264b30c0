-- question: which groups of a dataset hold rollouts that were drawn differently?
-- grain: one row per such group
-- params: none
-- columns: group_id, settings, example
-- _selected: the dataset's rollout_id, before it is stored.
SELECT
    group_id,
    count(DISTINCT {
        'temperature': temperature, 'top_p': top_p, 'top_k': top_k, 'extra': sampling_extra
    }) AS settings,
    min(rollout_id) AS example
FROM rollouts
SEMI JOIN _selected USING (rollout_id)
GROUP BY group_id
HAVING settings > 1
ORDER BY group_id
