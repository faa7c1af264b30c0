-- question: which groups of rollouts make the matched replay control (R7) of a GRPO stage?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs: advantage, labelled, response_logprobs
-- labels: derived
-- policy: on
-- rollouts: own
-- control: treatment
-- follows: verifier, form, epsilon, keep_equal, group_size, max_lag, prompts_per_update, passes
-- candidates: graded
-- params:
--   treatment: VARCHAR -- the GRPO dataset to match: the newest of that name, or an id
--   policy: POLICY -- the version of the policy that training starts from
--   verifier: VARCHAR = NULL -- whose rewards count; NULL, here and below: as the treatment's
--   form: grpo|dr_grpo|dapo|NULL = NULL -- how a reward becomes an advantage
--   epsilon: DOUBLE = NULL -- added to the standard deviation
--   keep_equal: BOOLEAN = NULL -- keep groups whose rewards are all equal, with advantage 0
--   group_size: COUNT = NULL -- only groups of that many rollouts
--   max_lag: BIGINT = NULL -- how many optimizer updates behind the policy its rollouts may be
--   prompts_per_update: COUNT = NULL -- groups that one optimizer update consumes
--   passes: COUNT = NULL -- how often each group is used
--   reference: POLICY = NULL -- policy whose stored scores give ref_logprobs, for the KL term of the loss; NULL: none, as for the treatment
--   any_sampling: BOOLEAN = false -- take rollouts drawn at a temperature other than 1, with top-p or top-k, too: importance ratios are biased by them
--   runs: VARCHAR = NULL -- only rollouts of these generate runs: ids comma-separated
--   round: BIGINT = NULL -- only this on-policy round
--   tolerance: DOUBLE = 0.02 -- largest relative difference of prompts and of rows, in each update and in all
-- columns: row, update, rollout_id, advantage, labelled, reward, group_id, group_size, group_mean, group_std, lag, round, unjudged, ref_policy_id
-- GRPO on prompts whose labels the policy's lineage has spent before: no new label, visited again.
-- Building checks that updates, prompts and rows are the treatment's. Groups and advantages are those
-- of query grpo: macros graded_groups and grpo_rows.
WITH graded AS (  -- noqa: ST03
    SELECT g.*
    FROM graded_groups($policy, $verifier, $max_lag, $runs, $round, $group_size) AS g
    SEMI JOIN spent_on_line($policy) AS s ON g.prompt_id = s.prompt_id
)
SELECT *, $reference AS ref_policy_id
FROM grpo_rows(
    'graded', $form, $epsilon, $keep_equal, $group_size IS NULL, $prompts_per_update, $passes,
    (SELECT max(update) FROM dataset_rows WHERE dataset_id = dataset_named($treatment)),
    NULL, $seed
)
ORDER BY row
