-- question: how did the updates of a stage go, over all of its rounds?
-- grain: one row per optimizer update
-- params:
--   of_stage: VARCHAR -- the stage
-- columns: step, run_id, update, loss, kl, entropy, clip_fraction, grad_norm, topk_mass, lr, seconds
-- step counts on over the rounds, from 1.
SELECT
    row_number() OVER (ORDER BY r.started_at, u.run_id, u.update) AS step, u.run_id, u.update,
    u.loss, u.kl, u.entropy, u.clip_fraction, u.grad_norm, u.topk_mass, u.lr, u.seconds
FROM updates AS u
INNER JOIN runs AS r ON u.run_id = r.run_id
WHERE r.stage = $of_stage
ORDER BY step
