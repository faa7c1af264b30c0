-- question: which gold answers has a verifier compared rollouts with?
-- grain: one row per verifying run, generate run whose rollouts it graded, and prompt
-- columns: run_id, source_run_id, stage, role, purpose, prompt_id
-- Prompts without a gold answer, which some verifiers grade too, have no label.
-- Stage, role and purpose are those of the rollouts: one verifying run serves many stages.
SELECT g.run_id, g.source_run_id, u.stage, r.role, r.purpose, g.prompt_id
FROM (
    SELECT DISTINCT w.run_id, r.run_id AS source_run_id, r.prompt_id
    FROM raw.rewards AS w
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    ANTI JOIN (SELECT prompt_id FROM raw.prompts WHERE answer_type = 'none') AS p
        ON r.prompt_id = p.prompt_id
) AS g
INNER JOIN generate_runs AS r ON g.source_run_id = r.run_id
LEFT JOIN runs AS u ON g.source_run_id = u.run_id
