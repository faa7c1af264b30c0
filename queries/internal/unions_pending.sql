-- question: which rollouts' scores on own and on policy support are not united yet, and where are they?
-- grain: one row per rollout, longest first
-- params:
--   scorer: VARCHAR -- policy_id
-- columns: rollout_id, own_k, policy_k, response_tokens, own_file, own_position, policy_file, policy_position
-- Temporary tables: _supports as score_supports gives it, _done (rollout_id, k) of what is united,
-- _scores, the rows of topk with filename and file_row_number.
SELECT
    s.rollout_id, s.own_k, s.policy_k, r.response_tokens,
    o.filename AS own_file, o.file_row_number AS own_position,
    p.filename AS policy_file, p.file_row_number AS policy_position
FROM _supports AS s
INNER JOIN rollouts AS r USING (rollout_id)
INNER JOIN _scores AS o
    ON
        s.rollout_id = o.rollout_id AND s.own_k = o.k
        AND o.support = 'own' AND o.scorer_policy_id = $scorer
INNER JOIN _scores AS p
    ON
        s.rollout_id = p.rollout_id AND s.policy_k = p.k
        AND p.support = 'policy' AND p.scorer_policy_id = $scorer
ANTI JOIN _done AS d ON s.rollout_id = d.rollout_id AND s.own_k + s.policy_k = d.k
ORDER BY r.response_tokens DESC, s.rollout_id
