-- Whether a rollout was drawn from its policy's own distribution, which is what stored logprobs are
-- of: at temperature 1, without top-p or top-k. False where that is not known.
CREATE MACRO plain_sampling(temperature, top_p, top_k) AS
    coalesce(temperature = 1 AND top_p = 1 AND top_k <= 0, false)
