-- skipped when: no rollouts are stored
SELECT rollouts AS examined, policy, purpose, truncated, empty, looping
FROM degenerate_shares($datasets, $tail, $repeats, $window)
ORDER BY policy, purpose
