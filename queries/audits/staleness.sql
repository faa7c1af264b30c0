-- question: do on-policy datasets hold rollouts staler than allowed?
-- grain: one row an OPD or GRPO dataset and sampling policy that lags too far, or is no ancestor
-- params:
--   datasets: VARCHAR = all -- datasets to look at: names comma-separated, or all
--   max_lag: BIGINT = -1 -- optimizer updates allowed; below 0: the lock's max_lag, else 0
--   within: BOOLEAN = false -- count the updates of the dataset itself before a row's turn too
-- columns: dataset, kind, learner, policy, rows, lag, allowed, example
SELECT
    dataset,
    kind,
    learner,
    policy,
    rows,
    CASE WHEN $within THEN lag + last_update - 1 ELSE lag END AS lag,
    CASE WHEN $max_lag >= 0 THEN $max_lag ELSE stated_max_lag END AS allowed,
    example
FROM row_lags($datasets)
WHERE
    lag IS NULL
    OR CASE WHEN $within THEN lag + last_update - 1 ELSE lag END
    > CASE WHEN $max_lag >= 0 THEN $max_lag ELSE stated_max_lag END
ORDER BY dataset, learner, policy
