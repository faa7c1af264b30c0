-- question: at which tokens of one rollout does the policy differ from its scorers?
-- grain: one row per response token and scorer, in order
-- params:
--   rollout: ROLLOUT -- the rollout: its id, or the first characters of it
-- columns: scorer, position, token, logprob, scorer_logprob, kl, cumulative_kl, policy_top, scorer_top, heat
-- heat: kl as a bar, one sign per quarter of a nat, the scorer's side (kl < 0) with `-`.
SELECT
    scorer, position, token, round(logprob, 4) AS logprob,
    round(scorer_logprob, 4) AS scorer_logprob, round(kl, 4) AS kl,
    round(
        sum(kl) FILTER (sampled) OVER (PARTITION BY scorer ORDER BY position), 4
    ) AS cumulative_kl,
    policy_top, scorer_top,
    repeat(CASE WHEN kl < 0 THEN '-' ELSE '#' END, least(24, round(abs(kl) * 4))::BIGINT) AS heat
FROM tokens
WHERE rollout_id = $rollout AND scorer IS NOT NULL
ORDER BY scorer, position
