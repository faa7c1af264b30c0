-- Rows of a GRPO dataset in training order: the groups of `source` (a CTE or table as graded_groups
-- gives it) in `n_passes` passes, `per_update` groups to an update, until `most_updates` updates or the
-- one that reaches `tokens_wanted` response tokens (NULL: no such limit). Groups whose rewards are all
-- equal go in where `keep` says so, with advantage 0; never in the form dapo.
-- Rollouts that nobody judged (timeout, error) are left out of their group and counted in `unjudged`:
-- group_size, mean and deviation are of those judged.
-- Advantages: grpo and dapo (reward - mean) / (std + eps), with the sample standard deviation
-- (n - 1) as torch.std gives it; dr_grpo reward - mean. dapo's token-level mean is the loss's.
-- `only_pairs`: groups with fewer than two judged rollouts are left out.
-- row, update, rollout_id, advantage, labelled, reward, group_id, group_size, group_mean, group_std,
-- lag, round, unjudged.
CREATE MACRO grpo_rows(
    source, advantage_form, eps, keep, only_pairs, per_update, n_passes, most_updates,
    tokens_wanted, order_seed
) AS TABLE
    WITH sums AS (
        SELECT
            group_id,
            count(reward) AS n,
            count(*) - count(reward) AS unjudged,
            sum(reward)::DECIMAL(18, 9) AS total,
            sum(reward * reward) AS squares,
            sum(response_tokens) FILTER (reward IS NOT NULL) AS group_tokens
        FROM query_table(source)
        GROUP BY group_id
        HAVING
            count(reward) > only_pairs::INT
            AND (min(reward) < max(reward) OR (keep AND advantage_form <> 'dapo'))
    ),
    placed AS (
        SELECT
            *,
            total::DOUBLE / n AS group_mean,
            CASE
                WHEN n = 1 THEN 0
                ELSE sqrt((n * squares - total * total)::DOUBLE / (n * (n - 1)))
            END AS group_std,
            row_number() OVER in_order - 1 AS place,
            sum(group_tokens) OVER in_order - group_tokens AS tokens_before
        FROM sums
        CROSS JOIN range(n_passes) AS _ (pass)
        WINDOW in_order AS (
            ORDER BY pass, md5(concat(order_seed, '/', pass, '/', group_id)), group_id
            ROWS UNBOUNDED PRECEDING
        )
    ),
    taken AS (
        SELECT *
        FROM placed
        WHERE most_updates IS NULL OR place < most_updates * per_update
        QUALIFY
            tokens_wanted IS NULL
            OR min(tokens_before) OVER (PARTITION BY place // per_update) < tokens_wanted
    )
    SELECT
        row_number() OVER (ORDER BY d.place, g.sample_index, g.rollout_id) - 1 AS row,
        d.place // per_update + 1 AS update,
        g.rollout_id,
        CASE
            WHEN advantage_form = 'dr_grpo' THEN g.reward::DOUBLE - d.group_mean
            ELSE (g.reward::DOUBLE - d.group_mean) / (d.group_std + eps)
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
    FROM query_table(source) AS g
    INNER JOIN taken AS d USING (group_id)
    LEFT JOIN raw.prompts AS p ON g.prompt_id = p.prompt_id
    WHERE g.response_tokens > 0 AND g.reward IS NOT NULL
