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
--   group_size: COUNT = NULL -- only groups of that many rollouts; NULL: all of two and more
--   max_lag: BIGINT = 0 -- how many optimizer updates behind the policy its rollouts may be; 0: its own alone
--   any_sampling: BOOLEAN = false -- take rollouts drawn at a temperature other than 1, with top-p or top-k, too: importance ratios are biased by them
--   runs: VARCHAR = NULL -- only rollouts of these generate runs: ids comma-separated
--   round: BIGINT = NULL -- only this on-policy round
--   prompts_per_update: COUNT = 64 -- groups that one optimizer update consumes, each of them whole
--   passes: COUNT = 1 -- how often each group is used, in a fresh order each time
--   updates: COUNT = NULL -- stop after that many updates; NULL: use every group
--   target_tokens: COUNT = NULL -- stop after the update that reaches so many response tokens
-- columns: row, update, rollout_id, advantage, labelled, reward, group_id, group_size, group_mean, group_std, lag, round, unjudged
-- A group is what was sampled together (rollouts.group_id): for one prompt, by one policy, in one run
-- and round, with the same sampling parameters. It counts once all of it is graded.
-- Rollouts that nobody judged (timeout, error) are left out of their group and counted in `unjudged`:
-- group_size, mean and deviation are of those judged; the parameter group_size counts all.
-- Advantages: grpo and dapo (reward - mean) / (std + epsilon), with the sample standard deviation
-- (n - 1) as torch.std gives it; dr_grpo reward - mean. dapo's token-level mean is the loss's.
-- Rewards enter as decimals of nine places, whose sums are exact in any order of the rows, so an
-- advantage has the same bits wherever the lock is rebuilt.
-- Lag: see macro policy_lags.
WITH graded AS (
    SELECT
        r.rollout_id, r.group_id, r.prompt_id, r.round, r.sample_index, r.response_tokens, v.lag,
        w.reward::DECIMAL(18, 9) AS reward, w.outcome
    FROM eligible_rollouts($runs, $round, false, NULL) AS r
    INNER JOIN policy_lags($policy) AS v ON r.policy_id = v.earlier_policy_id
    LEFT JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = $verifier
    WHERE v.lag <= $max_lag
),
sums AS (
    SELECT
        group_id,
        count(reward) AS n,
        count(*) - count(reward) AS unjudged,
        sum(reward)::DECIMAL(18, 9) AS total,
        sum(reward * reward) AS squares,
        sum(response_tokens) FILTER (reward IS NOT NULL) AS group_tokens
    FROM graded
    GROUP BY group_id
    HAVING
        count(*) = count(outcome)
        AND CASE
            WHEN $group_size IS NULL THEN count(reward) > 1
            ELSE count(*) = $group_size AND count(reward) > 0
        END
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
    CROSS JOIN range($passes) AS _ (pass)
    WINDOW in_order AS (
        ORDER BY pass, md5(concat($seed, '/', pass, '/', group_id)), group_id
        ROWS UNBOUNDED PRECEDING
    )
),
taken AS (
    SELECT *
    FROM placed
    WHERE $updates IS NULL OR place < $updates * $prompts_per_update
    QUALIFY
        $target_tokens IS NULL
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
    coalesce(p.answer_type <> 'none', false) AS labelled,
    g.reward::DOUBLE AS reward,
    g.group_id,
    d.n AS group_size,
    d.group_mean,
    d.group_std,
    g.lag,
    g.round,
    d.unjudged
FROM graded AS g
INNER JOIN taken AS d USING (group_id)
LEFT JOIN prompts AS p ON g.prompt_id = p.prompt_id
WHERE g.response_tokens > 0 AND g.reward IS NOT NULL
ORDER BY row
