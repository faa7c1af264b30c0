-- question: which rollouts lack the logprob of a token that their policy sampled, and why?
-- grain: one row per rollout, in order of its id
-- columns: rollout_id, why: retokenised, processed (the sampler's alone are known) or unknown
-- _others: rollout_id of those to look at; _file_rows: rows of the files that hold them.
SELECT
    rollout_id,
    CASE
        WHEN tokens_from = 'retokenised' THEN 'retokenised'
        WHEN sampler_logprobs IS NOT NULL THEN 'processed'
        ELSE 'unknown'
    END AS why
FROM _file_rows
SEMI JOIN _others USING (rollout_id)
WHERE
    response_logprobs IS NULL
    OR len(list_filter(
        list_zip(response_logprobs, coalesce(response_mask, [])),
        lambda x: x[1] IS NULL AND coalesce(x[2], true)
    )) > 0
ORDER BY rollout_id
