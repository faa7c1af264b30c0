-- question: which policies cut off, leave empty or loop in too many of their rollouts?
-- grain: one row per policy and purpose over a limit
-- params:
--   datasets: VARCHAR = NULL -- look only at rollouts of these datasets: names comma-separated; NULL: at every rollout
--   max_truncated: DOUBLE = 0.1 -- largest share cut off at max_tokens
--   max_empty: DOUBLE = 0.01 -- largest share without a word
--   max_looping: DOUBLE = 0.02 -- largest share that ends in a loop
--   tail: COUNT = 32 -- characters at the end of a response that a loop repeats
--   repeats: COUNT = 4 -- how often they stand in the last `window` characters of a loop
--   window: COUNT = 2000 -- characters searched
-- columns: policy, purpose, rollouts, truncated, empty, looping, example
SELECT policy, purpose, rollouts, truncated, empty, looping, example
FROM degenerate_shares($datasets, $tail, $repeats, $window)
WHERE truncated > $max_truncated OR empty > $max_empty OR looping > $max_looping
ORDER BY policy, purpose;

-- figures: rollouts and shares, by policy and purpose
-- skipped when: no rollouts are stored
SELECT rollouts AS examined, policy, purpose, truncated, empty, looping
FROM degenerate_shares($datasets, $tail, $repeats, $window)
ORDER BY policy, purpose
