-- question: which samples of a policy, in which order, make a plain supervised baseline?
-- grain: one row per use of a rollout, `row` is its place in training order
-- needs:
-- labels: chosen
-- policy: off
-- rollouts: teacher
-- params:
--   policy: POLICY -- the policy that sampled the rollouts, as a rule the teacher
--   runs: VARCHAR = any -- only rollouts of these generate runs: ids comma-separated
--   verifier: VARCHAR = math-verify -- whose rewards count as correct
--   correct_only: BOOLEAN = true -- keep only rollouts with reward > 0
--   finished_only: BOOLEAN = true -- leave out rollouts cut off at max_tokens
--   max_response_tokens: BIGINT = 0 -- leave out longer responses; 0 keeps all
--   max_per_prompt: BIGINT = 0 -- most rollouts of a prompt; 0 keeps all
--   min_pass_rate: DOUBLE = 0 -- leave out prompts that are solved less often
--   max_pass_rate: DOUBLE = 1 -- leave out prompts that are solved more often
--   pass_rate_of: POLICY = policy -- whose graded train rollouts give a prompt's pass rate p: the same policy's, or another's, such as the student's
--   weighting: none|paced = none -- paced draws rollouts by p(1-p), as PACED (arXiv 2603.11178) weighs prompts with the student's p
--   rows_per_update: COUNT = 64 -- rows that one optimizer update consumes
--   passes: COUNT = 1 -- how often each rollout is used, in a fresh order each time
--   updates: BIGINT = 0 -- stop after that many updates; 0 uses every row
--   target_tokens: BIGINT = 0 -- stop after the update that reaches so many response tokens; 0: no such limit
-- columns: row, update, rollout_id, labelled, reward, pass_rate
-- Rows hold tokens alone, no logprobs. The weighted draw is that of warmup.sql.
WITH pass_rates AS (
    SELECT r.prompt_id, avg((w.reward > 0)::INT) AS pass_rate
    FROM rollouts AS r
    INNER JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = $verifier
    WHERE
        r.purpose = 'train'
        AND r.policy_id = CASE $pass_rate_of WHEN 'policy' THEN $policy ELSE $pass_rate_of END
    GROUP BY r.prompt_id
),
candidates AS (
    SELECT
        r.rollout_id,
        r.prompt_id,
        r.response_tokens,
        w.reward,
        f.pass_rate,
        CASE WHEN $weighting = 'paced' THEN f.pass_rate * (1 - f.pass_rate) ELSE 1 END AS weight,
        p.answer IS NOT NULL
        AND ($correct_only OR $weighting <> 'none' OR $min_pass_rate > 0 OR $max_pass_rate < 1)
            AS labelled
    FROM rollouts AS r
    INNER JOIN prompts AS p USING (prompt_id)
    LEFT JOIN current_rewards AS w ON r.rollout_id = w.rollout_id AND w.verifier = $verifier
    LEFT JOIN pass_rates AS f ON r.prompt_id = f.prompt_id
    WHERE
        r.policy_id = $policy
        AND r.purpose = 'train'
        AND ($runs = 'any' OR list_contains(string_split($runs, ','), r.run_id))
        AND r.response_tokens > 0
        AND (NOT $correct_only OR w.reward > 0)
        AND (NOT $finished_only OR r.finish_reason = 'stop')
        AND ($max_response_tokens = 0 OR r.response_tokens <= $max_response_tokens)
        AND ($min_pass_rate <= 0 OR f.pass_rate >= $min_pass_rate)
        AND ($max_pass_rate >= 1 OR f.pass_rate <= $max_pass_rate)
),
kept AS (
    SELECT *
    FROM candidates
    WHERE weight > 0
    QUALIFY
        $max_per_prompt = 0
        OR row_number() OVER (
            PARTITION BY prompt_id ORDER BY md5(concat($seed, '/', rollout_id)), rollout_id
        ) <= $max_per_prompt
),
uses AS (
    SELECT
        *,
        md5_number(concat($seed, '/', pass, '/', rollout_id)) AS shuffled,
        -ln(shuffled::DOUBLE / 2e0 ** 128) / weight AS key
    FROM kept
    CROSS JOIN range($passes) AS passes (pass)
),
placed AS (
    SELECT
        *,
        row_number() OVER (ORDER BY pass, key, rollout_id) - 1 AS place,
        sum(response_tokens) OVER (
            ORDER BY pass, key, rollout_id ROWS UNBOUNDED PRECEDING
        ) - response_tokens AS tokens_before
    FROM uses
),
drawn AS (
    SELECT *
    FROM placed
    WHERE $updates = 0 OR place < $updates * $rows_per_update
    QUALIFY
        $target_tokens = 0
        OR min(tokens_before) OVER (PARTITION BY place // $rows_per_update) < $target_tokens
),
ordered AS (
    SELECT row_number() OVER (ORDER BY pass, shuffled DESC, rollout_id) - 1 AS row, *
    FROM drawn
)
SELECT
    row,
    row // $rows_per_update + 1 AS update,
    rollout_id,
    labelled,
    reward,
    pass_rate
FROM ordered
ORDER BY row
