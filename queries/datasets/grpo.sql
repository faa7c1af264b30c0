-- question: which groups of rollouts, with which advantages, make a GRPO stage?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs: advantage, labelled, response_logprobs
-- labels: derived
-- policy: on
-- rollouts: own
-- candidates: graded
-- params:
--   policy: POLICY -- the version of the policy that training starts from
--   verifier: VARCHAR = math-verify -- whose rewards count
--   form: grpo|dr_grpo|dapo = grpo -- how a reward becomes an advantage, see below
--   epsilon: DOUBLE = 0.000001 -- added to the standard deviation (verl's value; TRL adds 0.0001)
--   keep_equal: BOOLEAN = false -- keep groups whose rewards are all equal, with advantage 0; dapo never does
--   group_size: COUNT = NULL -- only groups of that many rollouts; NULL: all of two and more
--   max_lag: BIGINT = 0 -- how many optimizer updates behind the policy its rollouts may be; 0: its own alone
--   reference: POLICY = NULL -- policy whose stored scores give ref_logprobs, for the KL term of the loss; NULL: none
--   any_sampling: BOOLEAN = false -- take rollouts drawn at a temperature other than 1, with top-p or top-k, too: importance ratios are biased by them
--   runs: VARCHAR = NULL -- only rollouts of these generate runs: ids comma-separated
--   round: BIGINT = NULL -- only this on-policy round
--   prompts_per_update: COUNT = 64 -- groups that one optimizer update consumes, each of them whole
--   passes: COUNT = 1 -- how often each group is used, in a fresh order each time
--   updates: COUNT = NULL -- stop after that many updates; NULL: use every group
--   target_tokens: COUNT = NULL -- stop after the update that reaches so many response tokens
-- columns: row, update, rollout_id, advantage, labelled, reward, group_id, group_size, group_mean, group_std, lag, round, unjudged, ref_policy_id
-- Groups, and when one counts: macro graded_groups. Advantages, and rollouts that nobody judged: macro
-- grpo_rows. Lag: macro policy_lags.
WITH graded AS (  -- noqa: ST03
    SELECT * FROM graded_groups($policy, $verifier, $max_lag, $runs, $round, $group_size)
)
SELECT *, $reference AS ref_policy_id
FROM grpo_rows(
    'graded', $form, $epsilon, $keep_equal, $group_size IS NULL, $prompts_per_update, $passes,
    $updates, $target_tokens, $seed
)
ORDER BY row
