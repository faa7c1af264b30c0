-- skipped when: no dataset is built, and no policy scored another
SELECT count(*) AS examined, count(DISTINCT expected) AS tokenizers
FROM tokenizer_links($datasets, $scores)
