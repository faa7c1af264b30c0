-- question: how much was imported or captured in all?
-- grain: one row
-- params: none
-- columns: rollouts, sampled_tokens
SELECT count(*) AS rollouts, coalesce(sum(sampled_tokens), 0)::BIGINT AS sampled_tokens
FROM rollouts
WHERE origin <> 'sampled'
