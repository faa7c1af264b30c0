-- question: what do some rollouts say?
-- grain: one row per rollout, n of them chosen by a hash of their ids
-- params:
--   n: COUNT = 5 -- how many
--   policy: POLICY = NULL -- the sampling policy; NULL: every one
--   purpose: train|eval = NULL -- rollouts that count; NULL: both
--   outcome: VARCHAR = NULL -- what the verifier said: correct, wrong, ...; NULL: anything
--   draw: BIGINT = 0 -- another number draws others
-- columns: rollout_id, policy, prompt, gold, response, extracted, outcome, response_tokens
-- `s2d sample --where` takes any condition.
SELECT
    g.rollout_id, g.policy, prompt_text(p.messages) AS prompt, g.answer AS gold,
    g.response_text AS response, g.extracted, g.outcome, g.response_tokens
FROM graded_rollouts AS g
INNER JOIN prompts AS p USING (prompt_id)
WHERE
    ($policy IS NULL OR g.policy_id = $policy)
    AND ($purpose IS NULL OR g.purpose = $purpose)
    AND ($outcome IS NULL OR g.outcome = $outcome)
ORDER BY md5(concat($draw, g.rollout_id)), g.rollout_id
LIMIT $n
