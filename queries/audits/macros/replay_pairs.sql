-- Controls and the treatments that they stand beside, one row per update: what each consumes.
-- Where `treatment` is NULL, it is the dataset that the control's lock names: the newest of that name
-- that there was when the control was built.
-- `samples`: whether the control samples anew, so that tokens come as its policy writes them.
-- `rewards`: whether rewards make its rows. A dataset that declares no control samples nothing.
-- control, treatment, control_id, treatment_id, stated_tolerance, samples, rewards, update (null: all
-- of them), then of each side: rows, tokens, prompts, labelled rows.
CREATE MACRO replay_pairs(control, treatment) AS TABLE
    WITH pairs AS (
        SELECT
            c.name AS control,
            c.dataset_id AS control_id,
            coalesce(t.name, c.wanted) AS treatment,
            t.dataset_id AS treatment_id,
            c.stated_tolerance,
            coalesce(c.on_policy AND c.control_of IS NOT NULL, false) AS samples,
            coalesce(k.labels = 'derived' AND c.control_of IS NOT NULL, false) AS rewards
        FROM (
            SELECT
                *,
                coalesce(treatment, lock ->> '$.params.treatment') AS wanted,
                (lock ->> '$.params.tolerance')::DOUBLE AS stated_tolerance
            FROM audited_datasets(control)
            WHERE control_of IS NOT NULL OR treatment IS NOT NULL
        ) AS c
        LEFT JOIN dataset_traits AS k ON c.dataset_id = k.dataset_id
        LEFT JOIN raw.datasets AS t
            ON c.wanted IN (t.name, t.dataset_id)
            AND c.dataset_id <> t.dataset_id
            AND (c.created_at >= t.created_at OR treatment IS NOT NULL)
        QUALIFY row_number() OVER (PARTITION BY c.dataset_id ORDER BY t.created_at DESC) = 1
    ),
    amounts AS (
        SELECT
            d.dataset_id,
            d.update,
            count(*) AS rows,
            sum(r.response_tokens)::BIGINT AS tokens,
            count(DISTINCT d.prompt_id) AS prompts,
            count(*) FILTER (d.labelled) AS labels
        FROM raw.dataset_rows AS d
        INNER JOIN raw.rollouts AS r USING (rollout_id)
        WHERE d.dataset_id IN (
            SELECT unnest([control_id, treatment_id]) FROM pairs
        )
        GROUP BY GROUPING SETS ((d.dataset_id, d.update), (d.dataset_id))
    ),
    sides AS (
        SELECT
            p.control_id,
            a.update,
            a.rows AS control_rows, a.tokens AS control_tokens, a.prompts AS control_prompts,
            a.labels AS control_labels,
            0 AS treatment_rows, 0 AS treatment_tokens, 0 AS treatment_prompts
        FROM pairs AS p
        INNER JOIN amounts AS a ON p.control_id = a.dataset_id
        UNION ALL
        SELECT p.control_id, a.update, 0, 0, 0, 0, a.rows, a.tokens, a.prompts
        FROM pairs AS p
        INNER JOIN amounts AS a ON p.treatment_id = a.dataset_id
    )
    SELECT
        p.control, p.treatment, p.control_id, p.treatment_id, p.stated_tolerance,
        p.samples, p.rewards, s.update,
        sum(s.control_rows)::BIGINT AS control_rows,
        sum(s.control_tokens)::BIGINT AS control_tokens,
        sum(s.control_prompts)::BIGINT AS control_prompts,
        sum(s.control_labels)::BIGINT AS control_labels,
        sum(s.treatment_rows)::BIGINT AS treatment_rows,
        sum(s.treatment_tokens)::BIGINT AS treatment_tokens,
        sum(s.treatment_prompts)::BIGINT AS treatment_prompts
    FROM pairs AS p
    INNER JOIN sides AS s USING (control_id)
    GROUP BY ALL
