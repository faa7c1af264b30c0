-- question: which runs sampled the rollouts of the datasets that a walk has reached, and how?
-- grain: one row per dataset and run, the one with most rows first
-- columns: every column of view dataset_sources, rollouts, response_tokens, engine, engine_version,
--   temperature, top_p, top_k, max_tokens, round
-- Temporary table _datasets is what lineage_datasets gives. A run samples in one way.
WITH how AS (
    SELECT
        run_id,
        any_value(engine) AS engine,
        any_value(engine_version) AS engine_version,
        any_value(temperature) AS temperature,
        any_value(top_p) AS top_p,
        any_value(top_k) AS top_k,
        any_value(max_tokens) AS max_tokens,
        any_value(round) AS round
    FROM rollouts
    GROUP BY run_id
)
SELECT s.*, g.rollouts, g.response_tokens, h.* EXCLUDE (run_id)
FROM dataset_sources AS s
SEMI JOIN _datasets USING (dataset_id)
INNER JOIN generate_runs AS g ON s.run_id = g.run_id
INNER JOIN how AS h ON s.run_id = h.run_id
ORDER BY s.rows DESC, s.run_id
