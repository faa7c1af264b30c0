-- FLOPs of forward and backward passes over sequences: three forward passes, of attention three and a
-- half, with gradient checkpointing a further one of the layers; see macro forward_flops.
CREATE MACRO training_flops(size, checkpointing, all_tokens, responses, squared) AS
    3e0 * forward_flops(size, all_tokens, responses, squared)
    + 2e0 * size.attention_width * coalesce(squared, 0)
    + CASE WHEN checkpointing THEN forward_flops(size, all_tokens, 0, squared) ELSE 0 END
