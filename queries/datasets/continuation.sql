-- question: which stored teacher rollouts of the warmup make more updates of its loss, on a Stage 3 schedule?
-- grain: one row per use that a rollout may have, `slot` is its place by length
-- needs: scorer_policy_id, support, k, response_logprobs
-- labels: chosen
-- policy: off
-- rollouts: teacher
-- control: treatment
-- params:
--   treatment: VARCHAR -- the dataset to match: the newest of that name, or an id
--   bridge: VARCHAR = NULL -- datasets whose rollouts to draw from: kinds, names or ids, comma-separated; NULL: the warmup datasets that the treatment's start policy was trained on
--   support: policy|own|union = NULL -- only scores on that support; NULL: that of the newest of these datasets
--   role: teacher|student = NULL -- only rollouts of that role
--   policy: POLICY = NULL -- only rollouts of that policy
--   k: COUNT = NULL -- entries per token; NULL: the largest stored
--   passes: COUNT = 1 -- how often a rollout may be used
--   tolerance: DOUBLE = 0.02 -- largest relative difference of response tokens, in each update and in all
-- columns: slot, rollout_id, scorer_policy_id, support, k, labelled, earlier_uses, response_tokens
-- Building gives every row of the treatment a rollout of nearly its length, with the same `row` and
-- `update` (s2d_store/datasets/match_lengths.py), and checks the tolerance.
-- What is drawn from, and the columns: macros stored_candidates and stored_slots. Labels that had
-- chosen the rollouts are used again, and none is new: building refuses labels that the line had not
-- spent.
SELECT *
FROM stored_slots(
    $treatment, $bridge, false, $support, $role, $policy, $k, $passes, $seed
)
ORDER BY slot
