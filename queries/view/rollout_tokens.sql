-- question: what happened at each token of one rollout?
-- grain: one row per response token and scorer, in order
-- params:
--   rollout: VARCHAR -- rollout_id
-- columns: scorer, position, token_id, token, sampled, logprob, policy_entropy, policy_tail, policy_top, scorer_logprob, scorer_entropy, scorer_tail, scorer_top, kl
SELECT
    scorer, position, token_id, token, sampled, logprob, policy_entropy, policy_tail, policy_top,
    scorer_logprob, scorer_entropy, scorer_tail, scorer_top, kl
FROM tokens
WHERE rollout_id = $rollout
ORDER BY scorer NULLS FIRST, position
