-- A p-value corrected for looking at several comparisons (Holm 1979), which bounds the chance of any
-- false one among them. `all_p` are the p-values of all comparisons, this one's included; nulls are
-- none of them.
CREATE MACRO holm(p, all_p) AS
    list_max(list_transform(
        list_filter(all_p::DOUBLE[], lambda q: q <= p),
        lambda q: least(1.0, q * len(list_filter(all_p::DOUBLE[], lambda r: r >= q)))
    ))
