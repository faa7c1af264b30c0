-- question: which of the rollouts asked for does a verifier version still have to grade?
-- grain: one row per rollout, in order of its id
-- params:
--   verifier: VARCHAR -- the verifier
--   version: VARCHAR -- its version
--   needs_answer: BOOLEAN -- leave out rollouts of prompts without a gold answer
--   retry: BOOLEAN -- grade again where the newest attempt judged nothing
--   most: BIGINT -- most rollouts; 0 for all
-- columns: rollout_id, attempt, labelled
-- Temporary table _wanted holds the rollouts asked for: rollout_id, prompt_id.
WITH done AS (
    SELECT rollout_id, max(attempt) AS attempt, arg_max(outcome, attempt) AS outcome
    FROM rewards
    WHERE verifier = $verifier AND verifier_version = $version
    GROUP BY rollout_id
)
SELECT
    w.rollout_id,
    coalesce(d.attempt + 1, 0)::INT AS attempt,
    coalesce(p.answer_type <> 'none', false) AS labelled
FROM _wanted AS w
INNER JOIN rollouts AS r USING (rollout_id)
LEFT JOIN prompts AS p ON w.prompt_id = p.prompt_id
LEFT JOIN done AS d ON w.rollout_id = d.rollout_id
WHERE
    r.response_text IS NOT NULL
    AND (coalesce(p.answer_type <> 'none', false) OR NOT $needs_answer)
    AND (d.rollout_id IS NULL OR ($retry AND d.outcome IN ('timeout', 'error')))
ORDER BY w.rollout_id
LIMIT CASE WHEN $most > 0 THEN $most ELSE 9e18::BIGINT END
