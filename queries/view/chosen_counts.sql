-- question: which words stand in a column of the chosen rollouts, and how often?
-- grain: one row per word, most frequent first
-- params:
--   word: outcome|policy|purpose|finish_reason -- which column
--   most: COUNT -- words at most
-- columns: value, count, reward
SELECT
    CASE $word
        WHEN 'outcome' THEN outcome
        WHEN 'policy' THEN policy
        WHEN 'purpose' THEN purpose
        ELSE finish_reason
    END AS value,
    count(*) AS count,
    avg(reward) AS reward
FROM chosen_rows
GROUP BY value
ORDER BY count DESC, value
LIMIT $most
