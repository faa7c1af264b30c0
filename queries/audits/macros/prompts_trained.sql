-- Prompts of the named datasets' rows, or, where `split_only` is not NULL, all of that split.
-- prompt_id, source, split, text (normalised), datasets (names comma-separated).
CREATE MACRO prompts_trained(wanted, split_only) AS TABLE
    WITH used AS (
        SELECT d.prompt_id, string_agg(DISTINCT a.name, ',' ORDER BY a.name) AS datasets
        FROM (SELECT DISTINCT dataset_id, prompt_id FROM raw.dataset_rows) AS d
        INNER JOIN audited_datasets(wanted) AS a USING (dataset_id)
        WHERE split_only IS NULL
        GROUP BY d.prompt_id
    )
    SELECT
        p.prompt_id, p.source, p.split, normalised_text(prompt_text(p.messages)) AS text,
        coalesce(u.datasets, '') AS datasets
    FROM raw.prompts AS p
    LEFT JOIN used AS u USING (prompt_id)
    WHERE u.prompt_id IS NOT NULL OR p.split = split_only
