-- FLOPs of a forward pass over sequences, as torch counts them: 2 per parameter that multiplies a
-- token, 4 x layers x heads x head size per pair of tokens; see s2d_store/accounting/flops.py.
-- `size` is a row of view policy_sizes; `all_tokens` the tokens of prompts and responses, `squared`
-- the sum of the squares of whole lengths.
CREATE MACRO forward_flops(size, all_tokens, responses, squared) AS
    2e0 * size.in_layers * all_tokens
    + 2e0 * size.in_head * responses
    + 4e0 * size.attention_width * coalesce(squared, 0)
