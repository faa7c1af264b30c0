-- question: how did a training run go?
-- grain: one row per optimizer update
-- params:
--   run: VARCHAR = NULL -- a run_id; NULL: every run
-- columns: run_id, update, rows, response_tokens, loss, kl, entropy, topk_mass, grad_norm, lr, seconds
SELECT
    run_id, update, rows, response_tokens, round(loss, 4) AS loss, round(kl, 4) AS kl,
    round(entropy, 4) AS entropy, round(topk_mass, 4) AS topk_mass,
    round(grad_norm, 4) AS grad_norm, lr, round(seconds, 3) AS seconds
FROM updates
WHERE $run IS NULL OR run_id = $run
ORDER BY run_id, update
