-- How the rollouts of datasets were sampled and judged, as text; `of_datasets` names a CTE with dataset_id.
-- dataset_id, name, value.
CREATE MACRO sampled_alike(of_datasets) AS TABLE
    WITH drawn AS MATERIALIZED (
        SELECT DISTINCT
            d.dataset_id, r.rollout_id, r.group_id, r.max_tokens, r.temperature, r.top_p, r.top_k
        FROM raw.dataset_rows AS d
        INNER JOIN raw.rollouts AS r USING (rollout_id)
        WHERE d.dataset_id IN (SELECT dataset_id FROM query_table(of_datasets))
    ),
    groups AS (
        SELECT d.dataset_id, d.group_id, count(*) AS size
        FROM (SELECT DISTINCT dataset_id, group_id FROM drawn) AS d
        INNER JOIN raw.rollouts AS r USING (group_id)
        GROUP BY d.dataset_id, d.group_id
    ),
    told AS (
        SELECT dataset_id, 'length limit' AS name, max_tokens::VARCHAR AS value FROM drawn
        UNION
        SELECT
            dataset_id, 'sampling',
            concat('temperature ', temperature, ', top-p ', top_p, ', top-k ', top_k)
        FROM drawn
        UNION
        SELECT dataset_id, 'rollouts per prompt', size::VARCHAR FROM groups
        UNION
        SELECT d.dataset_id, 'verifier', concat(w.verifier, ' ', w.verifier_version)
        FROM drawn AS d
        INNER JOIN raw.datasets AS s USING (dataset_id)
        INNER JOIN raw.rewards AS w
            ON d.rollout_id = w.rollout_id AND w.verifier = (s.lock ->> '$.params.verifier')
        WHERE w.created_at <= s.created_at
    )
    SELECT dataset_id, name, string_agg(value, '; ' ORDER BY value) AS value
    FROM told
    GROUP BY dataset_id, name
