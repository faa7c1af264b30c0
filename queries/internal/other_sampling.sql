-- question: how were those rollouts of a dataset drawn that are not plain samples of their policy?
-- grain: one row per sampling, the most frequent first
-- params: none
-- columns: temperature, top_p, top_k, rollouts
-- _selected: the dataset's rollout_id, before it is stored.
SELECT temperature, top_p, top_k, count(*) AS rollouts
FROM rollouts
SEMI JOIN _selected USING (rollout_id)
WHERE NOT plain_sampling(temperature, top_p, top_k)
GROUP BY temperature, top_p, top_k
ORDER BY rollouts DESC, temperature, top_p, top_k
