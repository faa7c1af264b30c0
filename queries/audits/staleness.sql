-- question: do on-policy datasets hold rollouts staler than allowed?
-- grain: one row per OPD or GRPO dataset and sampling policy that lags too far, or is no ancestor
-- params:
--   datasets: VARCHAR = NULL -- datasets to look at: names comma-separated; NULL: all in use
--   max_lag: BIGINT = NULL -- optimizer updates allowed; NULL: the lock's max_lag, else 0
--   within: BOOLEAN = false -- count the updates of the dataset itself before a row's turn too
-- columns: dataset, kind, learner, policy, rows, lag, allowed, example
SELECT
    dataset,
    kind,
    learner,
    policy,
    rows,
    CASE WHEN $within THEN lag + last_update - 1 ELSE lag END AS lag,
    coalesce($max_lag, stated_max_lag) AS allowed,
    example
FROM row_lags($datasets)
WHERE
    lag IS NULL
    OR CASE WHEN $within THEN lag + last_update - 1 ELSE lag END
    > coalesce($max_lag, stated_max_lag)
ORDER BY dataset, learner, policy;

-- figures: rows and largest lag, by dataset and learner
-- skipped when: no dataset is of kind opd or grpo
SELECT
    sum(rows)::BIGINT AS examined,
    dataset,
    learner,
    max(lag) AS largest_lag,
    max(lag + last_update - 1) AS largest_lag_when_used
FROM row_lags($datasets)
GROUP BY dataset, learner
ORDER BY dataset, learner
