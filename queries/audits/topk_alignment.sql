-- question: do scores line up with the tokens of the rollouts that they are of?
-- grain: one row per scored rollout with a fault
-- params:
--   datasets: VARCHAR = NULL -- look only at rollouts of these datasets: names comma-separated; NULL: at every rollout
--   tolerance: DOUBLE = 0.1 -- root mean square difference, nats, allowed to a policy's two scores
-- columns: rollout_id, scorer, support, k, fault, response_tokens, scored_tokens, difference
-- Where the scorer is the policy that sampled, its scores must be the logprobs kept at sampling, up
-- to the arithmetic of another engine; scores that are shifted by a token differ by far more. Compared
-- are the tokens that it sampled and whose logprob is known.
WITH joined AS (
    SELECT
        t.rollout_id,
        t.scorer_policy_id,
        t.support,
        t.k,
        r.response_tokens,
        len(t.sampled_logprobs) AS scored_tokens,
        CASE
            WHEN
                t.scorer_policy_id = r.policy_id
                AND len(t.sampled_logprobs) = len(r.response_logprobs)
                THEN sampled_difference(
                    t.sampled_logprobs, r.response_logprobs, r.response_mask
                )
        END AS difference,
        len(r.response_logprobs) AS logprobs,
        len(r.response_token_ids) AS ids
    FROM (SELECT rollout_id, scorer_policy_id, support, k, sampled_logprobs FROM raw.topk) AS t
    LEFT JOIN raw.rollouts AS r USING (rollout_id)
    WHERE
        $datasets IS NULL
        OR t.rollout_id IN (SELECT rollout_id FROM chosen_rollouts($datasets))
),
judged AS (
    SELECT
        *,
        CASE
            WHEN response_tokens IS NULL THEN 'the rollout is not stored'
            WHEN logprobs <> response_tokens OR ids <> response_tokens
                THEN 'the rollout has other counts of tokens and logprobs than it says'
            WHEN scored_tokens <> response_tokens THEN 'scores are not one per token'
            WHEN difference > $tolerance THEN 'the policy disagrees with its own logprobs'
        END AS fault
    FROM joined
)
SELECT
    j.rollout_id, coalesce(p.name, j.scorer_policy_id) AS scorer, j.support, j.k, j.fault,
    j.response_tokens, j.scored_tokens, round(j.difference, 4) AS difference
FROM judged AS j
LEFT JOIN raw.policies AS p ON j.scorer_policy_id = p.policy_id
WHERE j.fault IS NOT NULL
ORDER BY j.fault, j.rollout_id, scorer;

-- figures: scored rollouts
-- skipped when: no top-k is stored
SELECT count(*) AS examined, count(DISTINCT scorer_policy_id) AS scorers
FROM raw.topk
WHERE $datasets IS NULL OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts($datasets))
