-- question: which runs scored the rows of some datasets, for which scorer and support?
-- grain: one row per dataset, score run, scorer, support and k
-- params: none
-- columns: dataset_id, run_id, scorer_policy_id, support, k, rows
-- _datasets: dataset_id of the datasets.
SELECT d.dataset_id, t.run_id, t.scorer_policy_id, t.support, t.k, count(*) AS rows
FROM dataset_rows AS d
SEMI JOIN _datasets USING (dataset_id)
INNER JOIN topk AS t USING (rollout_id)
INNER JOIN dataset_scorers AS s
    ON d.dataset_id = s.dataset_id AND t.scorer_policy_id = s.scorer_policy_id
GROUP BY ALL
ORDER BY ALL
