-- question: which datasets hold one rollout, and which optimizer updates consumed it?
-- grain: one row per dataset row, and update that was taken
-- params:
--   rollout: VARCHAR -- rollout_id
-- columns: dataset, dataset_id, row, update, labelled, run_id, stage, loss, kl, entropy, clip_fraction, grad_norm
SELECT
    s.name AS dataset, d.dataset_id, d.row, d.update, d.labelled, u.run_id, r.stage, u.loss, u.kl,
    u.entropy, u.clip_fraction, u.grad_norm
FROM raw.dataset_rows AS d
LEFT JOIN raw.datasets AS s ON d.dataset_id = s.dataset_id
LEFT JOIN raw.updates AS u ON d.dataset_id = u.dataset_id AND d.update = u.update
LEFT JOIN runs AS r ON u.run_id = r.run_id
WHERE d.rollout_id = $rollout
ORDER BY u.run_id NULLS LAST, d.update, d.row
