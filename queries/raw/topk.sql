-- Rows of table topk as everybody but the files sees them. topk_token_ids, topk_logprobs and
-- topk_sampled_logprobs are functions of s2d's connection (s2d_store/encoding/topk_sql.py): a query
-- that does not touch one of these columns does not pay for it.
SELECT
    rollout_id, scorer_policy_id, support, k, counts,
    topk_token_ids(ranks_id, rank_codes, rank_lows, far_ids) AS token_ids,
    topk_logprobs(
        logprobs, k, counts, top_logprobs, logit_unit, descending, unit_exponents, numbers,
        large_numbers, exact_entries
    ) AS logprobs,
    topk_sampled_logprobs(sampled_logprobs, top_logprobs, logit_unit, sampled_steps)
        AS sampled_logprobs,
    run_id, created_at::TIMESTAMP AS created_at
FROM files
