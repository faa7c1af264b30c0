-- How far two lists of one logprob per response token lie apart: root mean square in nats over the
-- tokens that the policy sampled and that both have a value for; NULL if there is none. A mask of
-- NULL: every token. (list_distance refuses a chunk of rows for a NULL in any of their lists.)
CREATE MACRO sampled_difference(one, other, mask) AS
    sqrt(list_avg(list_transform(
        one, lambda x, i: CASE WHEN mask IS NULL OR mask[i] THEN (x - other[i]) ** 2 END
    )))
