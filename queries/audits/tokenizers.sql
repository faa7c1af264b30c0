-- question: do student, teacher and dataset share one tokenizer along every run?
-- grain: one row per policy whose tokenizer differs from the one that its run or dataset needs
-- params:
--   datasets: VARCHAR = NULL -- datasets to look at: names comma-separated; NULL: all in use
--   scores: BOOLEAN = true -- look at every score in the store too, whatever the datasets
-- columns: relation, name, policy, tokenizer, expected_of, expected
SELECT relation, name, policy, tokenizer, expected_of, expected
FROM tokenizer_links($datasets, $scores)
WHERE tokenizer IS DISTINCT FROM expected
ORDER BY ALL;

-- figures: pairs of tokenizers compared
-- skipped when: no dataset is built, and no policy scored another
SELECT count(*) AS examined, count(DISTINCT expected) AS tokenizers
FROM tokenizer_links($datasets, $scores)
