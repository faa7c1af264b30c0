-- question: how much is in the store?
-- grain: one row
-- params: none
-- columns: prompts, labelled, rollouts, tokens, policies, datasets, updates
SELECT
    (SELECT count(*) FROM prompts) AS prompts,
    (SELECT count(*) FROM prompts WHERE answer_type <> 'none') AS labelled,
    (SELECT count(*) FROM rollouts) AS rollouts,
    (SELECT coalesce(sum(response_tokens), 0)::BIGINT FROM rollouts) AS tokens,
    (SELECT count(*) FROM policies) AS policies,
    (SELECT count(*) FROM datasets) AS datasets,
    (SELECT count(*) FROM updates) AS updates
