-- question: how far, in KL, is each policy from those that scored its rollouts?
-- grain: one row per sampling policy and scoring policy
-- params:
--   any_sampling: BOOLEAN = false -- take rollouts at other temperatures or truncated too (biased)
-- columns: sampler, scorer, prompts, rollouts, tokens, kl, standard_error
SELECT
    p.name AS sampler, s.name AS scorer, k.prompts, k.rollouts, k.tokens, round(k.kl, 4) AS kl,
    round(k.standard_error, 4) AS standard_error
FROM sampled_kl($any_sampling) AS k
LEFT JOIN policies AS p ON k.sampler_id = p.policy_id
LEFT JOIN policies AS s ON k.scorer_id = s.policy_id
ORDER BY sampler, scorer
