-- question: how did training go?
-- grain: one row per optimizer update
-- params:
--   run: RUN = NULL -- a training run; NULL: every run
--   stage: STAGE = NULL -- a stage, all its rounds; NULL: every stage
--   policy: POLICY = NULL -- the run that made this policy; NULL: every run
-- columns: stage, step, run_id, update, rows, response_tokens, loss, kl, entropy, topk_mass, clip_fraction, grad_norm, lr, seconds
-- step counts on over the rounds of a stage, update within a run.
WITH trained AS (
    SELECT
        u.*, r.stage, r.recipe, r.started_at,
        row_number() OVER (
            PARTITION BY r.recipe, r.stage, CASE WHEN r.recipe IS NULL THEN u.run_id END
            ORDER BY r.started_at, u.run_id, u.update
        ) AS step
    FROM updates AS u
    LEFT JOIN runs AS r USING (run_id)
)
SELECT
    stage, step, run_id, update, rows, response_tokens, round(loss, 4) AS loss,
    round(kl, 4) AS kl, round(entropy, 4) AS entropy, round(topk_mass, 4) AS topk_mass,
    round(clip_fraction, 4) AS clip_fraction, round(grad_norm, 4) AS grad_norm, lr,
    round(seconds, 3) AS seconds
FROM trained
WHERE
    ($run IS NULL OR run_id = $run)
    AND ($stage IS NULL OR stage = $stage)
    AND (
        $policy IS NULL OR run_id IN (SELECT run_id FROM policies WHERE policy_id = $policy)
    )
ORDER BY started_at, run_id, update
