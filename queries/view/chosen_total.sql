-- question: how many rollouts does a filter choose?
-- grain: one row
-- params: none
-- columns: total
-- chosen_rows is the viewer's own: the rows of rollout_list that a filter chooses.
SELECT count(*) AS total
FROM chosen_rows
