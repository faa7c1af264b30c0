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
