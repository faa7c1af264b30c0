-- Every pair of tokenizers that must be the same: a locked dataset's with the policies that
-- sampled, scored, start from and come out of training on it, and, with `scores`,
-- every scorer's with the sampler's.
-- relation, name, policy, tokenizer, expected_of, expected.
CREATE MACRO tokenizer_links(wanted, scores) AS TABLE
    WITH datasets AS (
        SELECT dataset_id, name, lock ->> '$.tokenizer_fingerprint' AS expected
        FROM audited_datasets(wanted)
    ),
    trained AS (
        SELECT DISTINCT u.run_id, u.dataset_id, t.start_policy_id, t.policy_id
        FROM (SELECT DISTINCT run_id, dataset_id FROM raw.updates) AS u
        INNER JOIN training_runs AS t USING (run_id)
    ),
    scored AS (
        SELECT DISTINCT t.run_id, t.scorer_policy_id, r.policy_id
        FROM (SELECT rollout_id, run_id, scorer_policy_id FROM raw.topk) AS t
        INNER JOIN raw.rollouts AS r USING (rollout_id)
        WHERE scores AND t.scorer_policy_id <> r.policy_id
    ),
    links AS (
        SELECT
            'sampled the rows of dataset' AS relation, d.name, s.policy_id,
            d.name AS expected_of, d.expected
        FROM datasets AS d
        INNER JOIN (SELECT DISTINCT dataset_id, policy_id FROM dataset_sources) AS s
            USING (dataset_id)
        UNION ALL
        SELECT 'scored the rows of dataset', d.name, s.scorer_policy_id, d.name, d.expected
        FROM datasets AS d
        INNER JOIN dataset_scorers AS s USING (dataset_id)
        UNION ALL
        SELECT 'starts run', t.run_id, t.start_policy_id, d.name, d.expected
        FROM datasets AS d
        INNER JOIN trained AS t USING (dataset_id)
        UNION ALL
        SELECT 'comes out of run', t.run_id, t.policy_id, d.name, d.expected
        FROM datasets AS d
        INNER JOIN trained AS t USING (dataset_id)
        UNION ALL
        SELECT 'scored in run', s.run_id, s.scorer_policy_id, p.name, p.tokenizer_fingerprint
        FROM scored AS s
        INNER JOIN raw.policies AS p USING (policy_id)
    )
    SELECT
        l.relation, l.name, coalesce(p.name, l.policy_id) AS policy,
        p.tokenizer_fingerprint AS tokenizer, l.expected_of, l.expected
    FROM links AS l
    LEFT JOIN raw.policies AS p USING (policy_id)
    WHERE l.policy_id IS NOT NULL AND l.expected IS NOT NULL
