-- Of a list with one entry per response token, the entries of tokens that the policy sampled. A mask
-- of NULL: every token.
CREATE MACRO sampled_only(entries, mask) AS
    CASE WHEN mask IS NULL THEN entries ELSE list_filter(entries, lambda x, i: mask[i]) END
