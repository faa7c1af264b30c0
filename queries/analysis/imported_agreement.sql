-- question: how far do verdicts here agree with the rewards that came with imported rollouts?
-- grain: one row per imported reward, verifier and policy
-- params:
--   above: DOUBLE = 0 -- an imported reward above this says right
--   runs: VARCHAR = NULL -- only rollouts of these runs: ids comma-separated
-- columns: imported, verifier, policy, judged, agree, only_imported, only_verifier, share, examples
-- Rewards that were imported are never called right or wrong by themselves: their scale is their
-- system's (open-instruct gives 10, DAPO -1). only_imported: right by the imported reward alone;
-- only_verifier: right by the verdict alone; share: of those judged by both, the part that agrees; examples: up to ten
-- rollouts on which they differ.
WITH pairs AS (
    SELECT
        i.verifier AS imported,
        v.verifier,
        o.name AS policy,
        r.rollout_id,
        i.reward > $above AS reported,
        is_correct(v.outcome, v.reward) AS correct
    FROM current_rewards AS i
    INNER JOIN current_rewards AS v USING (rollout_id)
    INNER JOIN raw.rollouts AS r USING (rollout_id)
    LEFT JOIN raw.policies AS o USING (policy_id)
    WHERE
        i.outcome = 'reported'
        AND v.outcome <> 'reported'
        AND i.reward IS NOT NULL
        AND is_correct(v.outcome, v.reward) IS NOT NULL
        AND ($runs IS NULL OR list_contains(string_split($runs, ','), r.run_id))
)
SELECT
    imported,
    verifier,
    policy,
    count(*) AS judged,
    count(*) FILTER (reported = correct) AS agree,
    count(*) FILTER (reported AND NOT correct) AS only_imported,
    count(*) FILTER (correct AND NOT reported) AS only_verifier,
    round(avg((reported = correct)::INT), 4) AS share,
    min(rollout_id, 10) FILTER (reported <> correct) AS examples
FROM pairs
GROUP BY ALL
ORDER BY imported, verifier, policy
