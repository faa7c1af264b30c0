-- question: did a policy give the same response to a prompt more often than chance allows?
-- grain: one row per policy, prompt and response (token by token) that stands twice or more
-- params:
--   datasets: VARCHAR = NULL -- look only at rollouts of these datasets: names comma-separated; NULL: at every rollout
--   chance: DOUBLE = 1e-9 -- largest probability of so many copies that counts as no accident
-- columns: policy, prompt_id, rollouts, copies, run_id, other_run_id, same_seed, response_tokens, log_chance, example, copy
-- Greedy rollouts (temperature 0) are left out: they repeat by design. A response's probability is
-- that of its stored logprobs, raised towards 1 for temperatures and top-p below 1, so that errors
-- fall on the side of chance: a copied run or a seed used twice stands out by hundreds of nats.
-- T**2 is a margin, not a proof: of tokens drawn at a temperature T < 1 from softmaxes of normal
-- logits (2 to 20,000 tokens, standard deviation 0.5 to 8), the mean logprob at T is at least T times
-- as far below 0 as that at 1, and T**2 < T. Top-p keeps a mass of at least top_p, so it adds at most
-- -log(top_p).
WITH copies AS MATERIALIZED (
    SELECT
        policy_id,
        prompt_id,
        hash(response_token_ids) AS response,
        count(*) AS copies,
        min(run_id) AS run_id,
        max(run_id) AS other_run_id,
        min(seed) = max(seed) AS same_seed,
        min(rollout_id) AS example,
        max(rollout_id) AS copy
    FROM raw.rollouts
    WHERE
        temperature > 0
        AND (
            $datasets IS NULL
            OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts($datasets))
        )
    GROUP BY ALL
    HAVING count(*) > 1
),
groups AS (
    SELECT policy_id, prompt_id, count(*) AS rollouts
    FROM raw.rollouts
    WHERE temperature > 0 AND prompt_id IN (SELECT prompt_id FROM copies)
    GROUP BY ALL
),
judged AS (
    SELECT
        c.*,
        g.rollouts,
        r.response_tokens,
        lgamma(g.rollouts) - lgamma(c.copies) - lgamma(g.rollouts - c.copies + 1)
        + (c.copies - 1) * coalesce(list_sum(list_transform(
            r.response_logprobs,
            lambda logprob: least(
                0, logprob * least(r.temperature ** 2, 1 / r.temperature) - ln(r.top_p)
            )
        )), 0) AS log_chance
    FROM copies AS c
    INNER JOIN groups AS g USING (policy_id, prompt_id)
    INNER JOIN raw.rollouts AS r ON c.example = r.rollout_id
)
SELECT
    coalesce(p.name, j.policy_id) AS policy, j.prompt_id, j.rollouts, j.copies, j.run_id,
    j.other_run_id,
    j.same_seed, j.response_tokens, round(j.log_chance, 1) AS log_chance, j.example, j.copy
FROM judged AS j
LEFT JOIN raw.policies AS p USING (policy_id)
WHERE j.log_chance < ln($chance)
ORDER BY j.log_chance, j.example;

-- figures: rollouts sampled at a temperature above 0
-- skipped when: no rollouts were sampled at a temperature above 0
SELECT count(*) AS examined
FROM raw.rollouts
WHERE
    temperature > 0
    AND ($datasets IS NULL OR rollout_id IN (SELECT rollout_id FROM chosen_rollouts($datasets)))
