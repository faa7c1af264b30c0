-- question: which prompts does one policy answer right and another wrong?
-- grain: one row per prompt that they answer differently, the largest changes first
-- params:
--   before: POLICY -- the policy that comes first
--   after: POLICY -- the policy that comes after
--   purpose: train|eval|NULL = eval -- rollouts that count; NULL: both
-- columns: change, prompt_id, prompt, gold, rate_before, rate_after, answer_before, answer_after, rollout_before, rollout_after
-- change: won where `after` is right more often, else lost. Rates are over a policy's rollouts of the
-- prompt; the answers and rollout ids are those of the first wrong one (before a win, after a loss)
-- and of the first right one.
WITH judged AS (
    SELECT
        prompt_id, policy_id = $after AS is_after, rollout_id, extracted, sample_index,
        is_correct(outcome, reward)::INT AS correct
    FROM graded_rollouts
    WHERE
        policy_id IN ($before, $after)
        AND is_correct(outcome, reward) IS NOT NULL
        AND ($purpose IS NULL OR purpose = $purpose)
),
rates AS (
    SELECT
        prompt_id,
        avg(correct) FILTER (NOT is_after) AS rate_before,
        avg(correct) FILTER (is_after) AS rate_after,
        arg_min(extracted, sample_index) FILTER (NOT is_after AND correct = 0) AS wrong_before,
        arg_min(extracted, sample_index) FILTER (NOT is_after AND correct = 1) AS right_before,
        arg_min(extracted, sample_index) FILTER (is_after AND correct = 0) AS wrong_after,
        arg_min(extracted, sample_index) FILTER (is_after AND correct = 1) AS right_after,
        arg_min(rollout_id, sample_index) FILTER (NOT is_after AND correct = 0) AS wrong_before_id,
        arg_min(rollout_id, sample_index) FILTER (NOT is_after AND correct = 1) AS right_before_id,
        arg_min(rollout_id, sample_index) FILTER (is_after AND correct = 0) AS wrong_after_id,
        arg_min(rollout_id, sample_index) FILTER (is_after AND correct = 1) AS right_after_id
    FROM judged
    GROUP BY prompt_id
)
SELECT
    CASE WHEN r.rate_after > r.rate_before THEN 'won' ELSE 'lost' END AS change,
    r.prompt_id,
    prompt_text(p.messages)[:120] AS prompt,
    coalesce(p.answer, array_to_string(p.answers, ', ')) AS gold,
    round(r.rate_before, 3) AS rate_before,
    round(r.rate_after, 3) AS rate_after,
    CASE WHEN r.rate_after > r.rate_before THEN r.wrong_before ELSE r.right_before END
        AS answer_before,
    CASE WHEN r.rate_after > r.rate_before THEN r.right_after ELSE r.wrong_after END
        AS answer_after,
    CASE WHEN r.rate_after > r.rate_before THEN r.wrong_before_id ELSE r.right_before_id END
        AS rollout_before,
    CASE WHEN r.rate_after > r.rate_before THEN r.right_after_id ELSE r.wrong_after_id END
        AS rollout_after
FROM rates AS r
INNER JOIN prompts AS p USING (prompt_id)
WHERE r.rate_before <> r.rate_after
ORDER BY abs(r.rate_after - r.rate_before) DESC, change, r.prompt_id
