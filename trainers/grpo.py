"""GRPO, stages 1 and 3: clipped policy gradient on groups whose advantages the dataset holds.

python -m trainers grpo --dataset datasets/NAME --student FOLDER --output runs/NAME
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import InputError
from trainers import run
from trainers.batches import (
    POLICY_LOGPROBS,
    REFERENCE_LOGPROBS,
    MicroBatch,
    trained_lengths,
)
from trainers.config import GRPOConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.losses.estimators import k3
from trainers.losses.grpo import denominator, grpo, token_weights, truncated_weights
from trainers.losses.reference_kl import reference_kl
from trainers.losses.support import Support, sampled_logprobs
from trainers.sampling import sampler_column
from trainers.student import Student
from trainers.update import TOKEN_COLUMNS


class GRPOObjective:
    """GRPO's objective; see `trainers.losses.grpo` and `trainers.losses.reference_kl`."""

    def __init__(
        self,
        config: GRPOConfig,
        normalisation: str,
        sampler: str = POLICY_LOGPROBS,
    ) -> None:
        """Choose columns and sums.

        Args:
            config: the trainer's.
            normalisation: grpo, dapo or dr_grpo.
            sampler: column of the logprobs that the ratio is to.
        """
        self._config, self._normalisation = config, normalisation
        columns = [*TOKEN_COLUMNS, sampler, "advantage"]
        sums = ["loss", "kl", "entropy", "clip_fraction"]
        self.recompute_at = 0.0
        if config.kl_coefficient:
            columns.append(REFERENCE_LOGPROBS)
            sums.append("reference_kl")
        if config.importance_cap:
            columns.append("rollout_id")
            sums.append("mismatch_kl")
            self.recompute_at = config.temperature
        self.columns: tuple[str, ...] = tuple(columns)
        self.sums: tuple[str, ...] = tuple(sums)

    def __call__(self, student: Student, batch: MicroBatch) -> Mapping[str, Tensor]:
        """Sums over the micro-batch.

        `kl` is from the policy that the ratio is to, the sampling one or the one recomputed before
        the first update, to the student; `reference_kl` from the student to the reference;
        `mismatch_kl` from the sampling policy to the recomputed one.
        """
        config = self._config
        # By the length of whole responses, which a block of tokens does not know.
        weights_R = token_weights(self._normalisation, batch.sequence_ids)
        then_R, corrections_R = batch.policy_logprobs, torch.ones_like(weights_R)
        if config.importance_cap:
            then_R = batch.old_logprobs
            corrections_R = truncated_weights(then_R, batch.policy_logprobs, config.importance_cap)

        def sums(support: Support, rows: slice) -> Mapping[str, Tensor]:
            now, then = sampled_logprobs(support), then_R[rows]
            weights, corrections = weights_R[rows], corrections_R[rows]
            result = grpo(now, then, batch.advantages[rows], weights * corrections, *config.clip)
            found = {
                "loss": result.loss,
                "kl": result.kl,
                "entropy": support.entropy_N.sum(),
                "clip_fraction": result.clipped.to(result.kl.dtype),
            }
            if config.importance_cap:
                found["mismatch_kl"] = k3(batch.policy_logprobs[rows], then).sum()
            if config.kl_coefficient:
                reference = batch.reference_logprobs[rows]
                penalty = reference_kl(
                    now, then, reference, weights, config.kl_estimator, corrections
                )
                found["loss"] = found["loss"] + config.kl_coefficient * penalty.loss
                found["reference_kl"] = penalty.kl
            return found

        return student.sums(batch, batch.targets[:, None], sums, config.temperature)

    def denominator(self, rows: UpdateRows) -> float:
        """Responses with a trained token, trained tokens, or responses times the constant."""
        lengths = trained_lengths(rows)
        constant = self._config.max_response_tokens
        responses, tokens = int((lengths > 0).sum()), int(lengths.sum())
        return denominator(self._normalisation, responses, tokens, constant)


def objective_for(config: GRPOConfig, dataset: LockedDataset) -> GRPOObjective:
    """The objective on a dataset's columns.

    Raises:
        InputError: dr_grpo without its constant; a KL to a reference whose logprobs the dataset
            lacks, or holds at another temperature; a temperature without logprobs at it.
    """
    sampler = sampler_column(config.temperature, dataset)
    lacks = dataset.lock.counts["updates"] and REFERENCE_LOGPROBS not in dataset.columns
    if config.kl_coefficient and lacks:
        raise InputError(
            f"kl_coefficient is {config.kl_coefficient}",
            f"dataset {dataset.lock.name} has no column {REFERENCE_LOGPROBS}, the reference "
            "policy's logprobs of the sampled tokens",
            "build a dataset that has them, from rollouts that the reference policy has scored; or "
            "train with --kl-coefficient 0",
        )
    if config.kl_coefficient and config.temperature != 1.0:
        raise InputError(
            f"kl_coefficient is {config.kl_coefficient} and temperature {config.temperature}",
            f"{REFERENCE_LOGPROBS} are at temperature 1: no KL to the policy at another",
            "train with --temperature 1 or --kl-coefficient 0",
        )
    return GRPOObjective(config, normalisation_of(config, dataset), sampler)


def normalisation_of(config: GRPOConfig, dataset: LockedDataset) -> str:
    """The config's normalisation; `auto` is the form of the advantages in the dataset's lock.

    Raises:
        InputError: dr_grpo without its constant.
    """
    chosen = config.normalisation
    if chosen == "auto":
        chosen = dataset.lock.raw.get("params", {}).get("form", "grpo")
    if chosen == "dr_grpo" and config.max_response_tokens < 1:
        raise InputError(
            f"max_response_tokens is {config.max_response_tokens}",
            f"the advantages of dataset {dataset.lock.name} are dr_grpo's, whose loss is divided "
            "by rows times a constant",
            "--max-response-tokens N, the --max-tokens of sampling; or another --normalisation",
        )
    return str(chosen)


def train_grpo(config: GRPOConfig, on_update: OnUpdate | None = None) -> TrainResult:
    """Train a policy on a locked `grpo` dataset; continues the run in `config.output` if any.

    Raises:
        S2DError: see `trainers.run.run`.
    """
    return run.run(
        config,
        "grpo",
        lambda dataset: objective_for(config, dataset),
        on_update,
    )
