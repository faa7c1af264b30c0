"""Which stored logprobs are those of the policy that sampled, for an importance ratio."""

from __future__ import annotations

from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import InputError
from trainers.batches import POLICY_LOGPROBS, SAMPLER_LOGPROBS


def sampler_column(temperature: float, dataset: LockedDataset) -> str:
    """The column of the sampling policy's logprobs.

    `sampler_logprobs` hold what each token was drawn with, after temperature, top-p and all else:
    with them a ratio is exact however the rollouts were sampled. `response_logprobs` are the
    policy's at temperature 1 over the whole vocabulary: the same where sampling was plain.

    Args:
        temperature: that the trained policy's logits are divided by.
        dataset: what is trained on.

    Raises:
        InputError: a temperature other than 1, and only logprobs at 1.
    """
    if SAMPLER_LOGPROBS in dataset.columns:
        return SAMPLER_LOGPROBS
    if temperature != 1.0 and dataset.lock.counts["updates"]:
        raise InputError(
            f"temperature is {temperature}",
            f"dataset {dataset.lock.name} has no column {SAMPLER_LOGPROBS}, and its "
            f"{POLICY_LOGPROBS} are at temperature 1: their ratio to the policy at another means "
            "nothing",
            "build a dataset of rollouts that were stored with what they were drawn with, or train "
            "with --temperature 1 on rollouts sampled at 1",
        )
    return POLICY_LOGPROBS
