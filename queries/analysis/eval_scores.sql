-- question: how good is each policy on held-out prompts, and how sure is that?
-- grain: one row a policy, split and sampling settings
-- params:
--   n: COUNT = 4 -- rollouts a prompt that count, the first by sample_index; prompts with fewer are left out
--   k: COUNT = 1 -- for pass@k, unbiased (arXiv 2107.03374, equation 1); at most n
--   verifier: VARCHAR = math-verify -- whose verdicts count
--   resamples: COUNT = 1000 -- bootstrap samples of the prompts behind the intervals
--   seed: BIGINT = 0 -- of the bootstrap
-- columns: policy, split, temperature, top_p, top_k, prompts, avg_at_n, avg_low, avg_high, pass_at_k, pass_low, pass_high, maj_at_n, maj_low, maj_high, mean_tokens, truncated
-- avg@n: mean reward over rollouts, then prompts. maj@n: reward of the most frequent extracted answer;
-- of tied answers, their mean; rollouts without one do not vote. Intervals: 95%, percentiles over
-- resamples of the prompts, drawn by a hash of seed, resample and place, so they are reproducible and
-- policies on the same prompts share their draws.
WITH rollouts_used AS (
    SELECT
        policy, split, temperature, top_p, top_k, prompt_id, reward, outcome, extracted,
        response_tokens, finish_reason
    FROM graded_rollouts
    WHERE purpose = 'eval' AND verifier = $verifier AND reward IS NOT NULL
    QUALIFY
        row_number() OVER (
            PARTITION BY policy, split, temperature, top_p, top_k, prompt_id
            ORDER BY round DESC, sample_index, rollout_id
        ) <= $n
),
votes AS (
    SELECT
        policy, split, temperature, top_p, top_k, prompt_id, extracted,
        count(*) AS n_votes, avg(reward) AS reward
    FROM rollouts_used
    WHERE outcome IN ('correct', 'wrong')
    GROUP BY ALL
),
majorities AS (
    SELECT policy, split, temperature, top_p, top_k, prompt_id, avg(reward) AS maj
    FROM (
        FROM votes
        QUALIFY rank() OVER (
            PARTITION BY policy, split, temperature, top_p, top_k, prompt_id
            ORDER BY n_votes DESC
        ) = 1
    )
    GROUP BY ALL
),
prompts_scored AS (
    SELECT
        u.policy, u.split, u.temperature, u.top_p, u.top_k, u.prompt_id,
        avg(u.reward) AS avg_reward,
        pass_at_k(count(*), count(*) FILTER (u.reward > 0), least($k, $n)) AS pass,
        coalesce(any_value(m.maj), 0) AS maj,
        avg(u.response_tokens) AS tokens,
        avg((u.finish_reason = 'length')::INT) AS truncated
    FROM rollouts_used AS u
    LEFT JOIN majorities AS m USING (policy, split, temperature, top_p, top_k, prompt_id)
    GROUP BY ALL
    HAVING count(*) = $n
),
placed AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY policy, split, temperature, top_p, top_k ORDER BY prompt_id
        ) - 1 AS place
    FROM prompts_scored
),
sizes AS (
    SELECT policy, split, temperature, top_p, top_k, count(*) AS prompts
    FROM placed
    GROUP BY ALL
),
draws AS (
    SELECT
        prompts,
        resample,
        (md5_number_lower(concat($seed, '/', resample, '/', draw)) % prompts::UBIGINT)::BIGINT AS place
    FROM (SELECT DISTINCT prompts FROM sizes)
    CROSS JOIN range($resamples) AS _ (resample)
    CROSS JOIN LATERAL unnest(range(prompts)) AS _ (draw)
),
means AS (
    SELECT
        p.policy, p.split, p.temperature, p.top_p, p.top_k, d.resample,
        avg(p.avg_reward) AS avg_reward, avg(p.pass) AS pass, avg(p.maj) AS maj
    FROM placed AS p
    INNER JOIN sizes USING (policy, split, temperature, top_p, top_k)
    INNER JOIN draws AS d ON sizes.prompts = d.prompts AND p.place = d.place
    GROUP BY ALL
),
intervals AS (
    SELECT
        policy, split, temperature, top_p, top_k,
        quantile_cont(avg_reward, [0.025, 0.975]) AS avg_q,
        quantile_cont(pass, [0.025, 0.975]) AS pass_q,
        quantile_cont(maj, [0.025, 0.975]) AS maj_q
    FROM means
    GROUP BY ALL
)
SELECT
    p.policy, p.split, p.temperature, p.top_p, p.top_k,
    count(*) AS prompts,
    round(avg(p.avg_reward), 4) AS avg_at_n,
    round(any_value(i.avg_q[1]), 4) AS avg_low,
    round(any_value(i.avg_q[2]), 4) AS avg_high,
    round(avg(p.pass), 4) AS pass_at_k,
    round(any_value(i.pass_q[1]), 4) AS pass_low,
    round(any_value(i.pass_q[2]), 4) AS pass_high,
    round(avg(p.maj), 4) AS maj_at_n,
    round(any_value(i.maj_q[1]), 4) AS maj_low,
    round(any_value(i.maj_q[2]), 4) AS maj_high,
    round(avg(p.tokens), 1) AS mean_tokens,
    round(avg(p.truncated), 4) AS truncated
FROM placed AS p
INNER JOIN intervals AS i USING (policy, split, temperature, top_p, top_k)
GROUP BY ALL
ORDER BY ALL
