-- Logprobs of a stored top-k row, list of T*k: as they are, or, bit for bit, from steps below the
-- greatest of each token (docs/format.md).
CREATE MACRO raw.topk_logprobs(logprobs, top_logprobs, logit_steps, logit_unit, k) AS
    coalesce(
        logprobs,
        list_transform(
            logit_steps,
            lambda step, i: top_logprobs[(i - 1) // k + 1] - step::FLOAT * logit_unit
        )
    )
