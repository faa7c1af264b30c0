-- question: which of two policies is better on the same held-out prompts, and how sure is that?
-- grain: one row a pair of policies, split and sampling settings
-- params:
--   n: COUNT = 4 -- rollouts a prompt that count, the first by sample_index; prompts with fewer are left out
--   verifier: VARCHAR = math-verify -- whose rewards count
--   baseline: POLICY = any -- compare with this policy alone
--   resamples: COUNT = 1000 -- bootstrap samples of the prompts behind the interval
--   seed: BIGINT = 0 -- of the bootstrap
-- columns: policy, baseline, split, temperature, top_p, top_k, prompts, difference, low, high, won, lost, tied
-- Difference of avg@n (policy minus baseline) over prompts that both answered with the same settings;
-- 95% interval by a paired bootstrap over these prompts; a prompt is won where its mean reward is
-- higher. Without a baseline each pair stands once, the policy with the later name first.
WITH rollouts_used AS (
    SELECT policy_id, policy, split, temperature, top_p, top_k, prompt_id, reward
    FROM graded_rollouts
    WHERE purpose = 'eval' AND verifier = $verifier AND reward IS NOT NULL
    QUALIFY
        row_number() OVER (
            PARTITION BY policy_id, temperature, top_p, top_k, prompt_id
            ORDER BY round DESC, sample_index, rollout_id
        ) <= $n
),
prompts_scored AS (
    SELECT
        policy_id, policy, split, temperature, top_p, top_k, prompt_id, avg(reward) AS avg_reward
    FROM rollouts_used
    GROUP BY ALL
    HAVING count(*) = $n
),
pairs AS (
    SELECT
        a.policy, b.policy AS baseline, split, temperature, top_p, top_k,
        a.avg_reward - b.avg_reward AS gain,
        row_number() OVER (
            PARTITION BY a.policy, b.policy, split, temperature, top_p, top_k ORDER BY prompt_id
        ) - 1 AS place
    FROM prompts_scored AS a
    INNER JOIN prompts_scored AS b USING (split, temperature, top_p, top_k, prompt_id)
    WHERE CASE
        WHEN $baseline = 'any' THEN a.policy > b.policy
        ELSE b.policy_id = $baseline AND a.policy_id <> $baseline
    END
),
sizes AS (
    SELECT policy, baseline, split, temperature, top_p, top_k, count(*) AS prompts
    FROM pairs
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
        p.policy, p.baseline, p.split, p.temperature, p.top_p, p.top_k, d.resample,
        avg(p.gain) AS gain
    FROM pairs AS p
    INNER JOIN sizes USING (policy, baseline, split, temperature, top_p, top_k)
    INNER JOIN draws AS d ON sizes.prompts = d.prompts AND p.place = d.place
    GROUP BY ALL
),
intervals AS (
    SELECT
        policy, baseline, split, temperature, top_p, top_k,
        quantile_cont(gain, [0.025, 0.975]) AS bounds
    FROM means
    GROUP BY ALL
)
SELECT
    p.policy, p.baseline, p.split, p.temperature, p.top_p, p.top_k,
    count(*) AS prompts,
    round(avg(p.gain), 4) AS difference,
    round(any_value(i.bounds[1]), 4) AS low,
    round(any_value(i.bounds[2]), 4) AS high,
    count(*) FILTER (p.gain > 0) AS won,
    count(*) FILTER (p.gain < 0) AS lost,
    count(*) FILTER (p.gain = 0) AS tied
FROM pairs AS p
INNER JOIN intervals AS i USING (policy, baseline, split, temperature, top_p, top_k)
GROUP BY ALL
ORDER BY ALL
