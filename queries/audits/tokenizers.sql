-- question: do student, teacher and dataset share one tokenizer along every run?
-- grain: one row per policy whose tokenizer differs from the one that its run or dataset needs
-- params:
--   datasets: VARCHAR = all -- datasets to look at: names comma-separated, or all
--   scores: BOOLEAN = true -- look at every score in the store too, whatever the datasets
-- columns: relation, name, policy, tokenizer, expected_of, expected
SELECT relation, name, policy, tokenizer, expected_of, expected
FROM tokenizer_links($datasets, $scores)
WHERE tokenizer IS DISTINCT FROM expected
ORDER BY ALL
