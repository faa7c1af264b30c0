-- Prompts whose labels were spent in making a policy (a name or an id): by its parents, its teachers,
-- and all that these were made from. What a replay control samples from:
-- s2d generate --where "prompt_id IN (FROM spent_on_line('bridge'))".
-- prompt_id.
CREATE MACRO spent_on_line(of_policy) AS TABLE
    WITH line_of AS (  -- noqa: ST03
        SELECT policy_id FROM raw.policies WHERE of_policy IN (policy_id, name)
    )
    SELECT prompt_id FROM lineage_labels('line_of')
