-- question: what of each policy multiplies a token, for estimates of FLOPs?
-- grain: one row per policy
-- columns: policy_id, in_layers, in_head, attention_width
-- in_layers: parameters that a token uses, without looked-up embeddings and the output projection,
-- whose parameters are in_head. Null where the policy's size is unknown; what is not known of its
-- form counts as part of its layers, without attention.
SELECT
    policy_id,
    coalesce(active_parameters, n_parameters)
    - coalesce(lookup_parameters, 0) - coalesce(head_parameters, 0) AS in_layers,
    coalesce(head_parameters, 0) AS in_head,
    coalesce(attention_width, 0) AS attention_width
FROM raw.policies
