-- Unbiased pass@k of one prompt: n rollouts, c of them correct (arXiv 2107.03374, equation 1),
-- as the product of (1 - k / i) for i in n-c+1 .. n. NULL when n < k.
CREATE MACRO pass_at_k(n, c, k) AS
    CASE
        WHEN n < k THEN NULL
        WHEN n - c < k THEN 1.0
        ELSE 1.0 - coalesce(
            list_product(list_transform(range(n - c + 1, n + 1), lambda i: 1.0 - k / i)), 1.0
        )
    END
