-- question: which groups of rollouts, with which advantages, make a GRPO stage?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs: advantage, labelled, response_logprobs
-- labels: derived
-- policy: on
-- rollouts: own
-- params:
--   policy: POLICY -- the version of the policy that training starts from
--   verifier: VARCHAR = math-verify -- whose rewards count
--   form: grpo|dr_grpo|dapo = grpo -- how a reward becomes an advantage, see below
--   epsilon: DOUBLE = 0.000001 -- added to the standard deviation (verl's value; TRL adds 0.0001)
--   keep_equal: BOOLEAN = false -- keep groups whose rewards are all equal, with advantage 0; dapo never does
--   group_size: BIGINT = 0 -- only groups of that many rollouts; 0 takes all of two and more
--   max_lag: BIGINT = 0 -- how many optimizer updates behind the policy its rollouts may be; 0: its own alone
--   runs: VARCHAR = any -- only rollouts of these generate runs: ids comma-separated
--   round: BIGINT = -1 -- only this on-policy round; -1 takes all
--   prompts_per_update: COUNT = 64 -- groups that one optimizer update consumes, each of them whole
--   passes: COUNT = 1 -- how often each group is used, in a fresh order each time
--   updates: BIGINT = 0 -- stop after that many updates; 0 uses every group
--   target_tokens: BIGINT = 0 -- stop after the update that reaches so many response tokens; 0: no such limit
-- columns: row, update, rollout_id, advantage, labelled, reward, group_size, group_mean, group_std, lag, round
-- A group is what one policy sampled for one prompt in one round; it counts once all of it is graded.
-- Advantages: grpo and dapo (reward - mean) / (std + epsilon), with the sample standard deviation
-- (n - 1) as torch.std gives it; dr_grpo reward - mean. dapo's token-level mean is the loss's.
-- Rewards enter as decimals of nine places, whose sums are exact in any order of the rows, so an
-- advantage has the same bits wherever the lock is rebuilt.
-- Lag: optimizer updates between a version and the one that training starts from, over parents and
-- earlier checkpoints of the same training runs.
WITH RECURSIVE ancestors AS (
    SELECT policy_id, parent_policy_id, run_id, update, 0::BIGINT AS lag
    FROM policies
    WHERE policy_id = $policy
    UNION
    SELECT p.policy_id, p.parent_policy_id, p.run_id, p.update, a.lag + coalesce(a.update, 0)
    FROM ancestors AS a
    INNER JOIN policies AS p ON a.parent_policy_id = p.policy_id
    WHERE a.lag + coalesce(a.update, 0) <= $max_lag
),
versions AS (
    SELECT policy_id, min(lag) AS lag
    FROM (
        SELECT policy_id, lag
        FROM ancestors
        UNION ALL
        SELECT e.policy_id, a.lag + a.update - e.update
        FROM ancestors AS a
        INNER JOIN policies AS e ON a.run_id = e.run_id AND e.update < a.update
    )
    WHERE lag <= $max_lag
    GROUP BY policy_id
),
graded AS (
    SELECT
        r.rollout_id, r.prompt_id, r.policy_id, r.round, r.sample_index, r.response_tokens, v.lag,
        w.reward::DECIMAL(18, 9) AS reward
    FROM rollouts AS r
    INNER JOIN versions AS v USING (policy_id)
    LEFT JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = $verifier
    WHERE
        r.purpose = 'train'
        AND ($runs = 'any' OR list_contains(string_split($runs, ','), r.run_id))
        AND ($round < 0 OR r.round = $round)
),
sums AS (
    SELECT
        prompt_id, policy_id, round,
        count(*) AS n,
        sum(reward)::DECIMAL(18, 9) AS total,
        sum(reward * reward) AS squares,
        sum(response_tokens) AS group_tokens
    FROM graded
    GROUP BY prompt_id, policy_id, round
    HAVING
        count(*) = count(reward)
        AND CASE $group_size WHEN 0 THEN count(*) > 1 ELSE count(*) = $group_size END
        AND (min(reward) < max(reward) OR ($keep_equal AND $form <> 'dapo'))
),
placed AS (
    SELECT
        *,
        total::DOUBLE / n AS group_mean,
        CASE WHEN n = 1 THEN 0 ELSE sqrt((n * squares - total * total)::DOUBLE / (n * (n - 1))) END AS group_std,
        row_number() OVER in_order - 1 AS place,
        sum(group_tokens) OVER in_order - group_tokens AS tokens_before
    FROM sums
    CROSS JOIN range($passes) AS passes (pass)
    WINDOW in_order AS (
        ORDER BY
            pass, md5(concat($seed, '/', pass, '/', prompt_id, '/', policy_id, '/', round)),
            prompt_id, policy_id, round
        ROWS UNBOUNDED PRECEDING
    )
),
drawn AS (
    SELECT *
    FROM placed
    WHERE $updates = 0 OR place < $updates * $prompts_per_update
    QUALIFY
        $target_tokens = 0
        OR min(tokens_before) OVER (PARTITION BY place // $prompts_per_update) < $target_tokens
)
SELECT
    row_number() OVER (ORDER BY d.place, g.sample_index, g.rollout_id) - 1 AS row,
    d.place // $prompts_per_update + 1 AS update,
    g.rollout_id,
    CASE
        WHEN $form = 'dr_grpo' THEN g.reward::DOUBLE - d.group_mean
        ELSE (g.reward::DOUBLE - d.group_mean) / (d.group_std + $epsilon)
    END AS advantage,
    coalesce(p.answer IS NOT NULL, false) AS labelled,
    g.reward::DOUBLE AS reward,
    d.n AS group_size,
    d.group_mean,
    d.group_std,
    g.lag,
    g.round
FROM graded AS g
INNER JOIN drawn AS d USING (prompt_id, policy_id, round)
LEFT JOIN prompts AS p ON g.prompt_id = p.prompt_id
WHERE g.response_tokens > 0
ORDER BY row
