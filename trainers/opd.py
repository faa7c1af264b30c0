"""OPD, stage 2b: on-policy distillation on the student's own stored rollouts.

    python -m trainers opd --dataset datasets/NAME --student FOLDER --output runs/NAME

The reverse KL takes the support that the dataset holds: the student's own top k with the teacher's
logprobs there, or the teacher's top k. The sampled form needs the teacher's logprob of each sampled
token alone, which every scored rollout has.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from s2d_store.datasets.read import LockedDataset
from trainers import run
from trainers.batches import POLICY_LOGPROBS, TEACHER_LOGPROBS, MicroBatch
from trainers.config import OPDConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.losses.forward_kl import forward_kl
from trainers.losses.policy_gradient import sampled_kl
from trainers.losses.reverse_kl import reverse_kl
from trainers.losses.support import Support, sampled_logprobs
from trainers.sampling import sampler_column
from trainers.student import Student
from trainers.support_kl import SupportKLObjective
from trainers.update import TOKEN_COLUMNS, Objective, TokenMean


class SampledKLObjective(TokenMean):
    """Policy gradient towards the teacher; see `trainers.losses.policy_gradient`."""

    sums: tuple[str, ...] = ("loss", "kl", "entropy", "clip_fraction")

    def __init__(
        self, ratio_cap: float, temperature: float = 1.0, sampler: str = POLICY_LOGPROBS
    ) -> None:
        """Choose columns.

        Args:
            ratio_cap: largest importance weight.
            temperature: what the student's logits are divided by.
            sampler: column of the sampling policy's logprobs.
        """
        self._ratio_cap, self._temperature = ratio_cap, temperature
        self.columns: tuple[str, ...] = (*TOKEN_COLUMNS, sampler, TEACHER_LOGPROBS)

    def __call__(self, student: Student, batch: MicroBatch) -> Mapping[str, Tensor]:
        """Sums over the micro-batch; `clip_fraction` counts ratios above the cap."""

        def sums(support: Support, rows: slice) -> Mapping[str, Tensor]:
            policy, teacher = batch.policy_logprobs[rows], batch.teacher_logprobs[rows]
            result = sampled_kl(sampled_logprobs(support), policy, teacher, self._ratio_cap)
            return {
                "loss": result.loss,
                "kl": result.kl,
                "entropy": support.entropy_N.sum(),
                "clip_fraction": result.clipped.to(result.kl.dtype),
            }

        return student.sums(batch, batch.targets[:, None], sums, self._temperature)


def bridge_objective(config: OPDConfig, dataset: LockedDataset) -> Objective:
    """The objective that `config.loss` names, on a dataset's columns.

    Raises:
        InputError: a temperature without logprobs at it.
    """
    if config.loss == "sampled":
        sampler = sampler_column(config.temperature, dataset)
        return SampledKLObjective(config.ratio_cap, config.temperature, sampler)
    if config.loss == "forward_kl":
        return SupportKLObjective(forward_kl, config.tail)
    return SupportKLObjective(reverse_kl, config.tail)


def train_opd(config: OPDConfig, on_update: OnUpdate | None = None) -> TrainResult:
    """Train a student on a locked `opd` dataset; continues the run in `config.output` if any.

    Raises:
        S2DError: see `trainers.run.run`.
    """
    return run.run(config, "opd", lambda dataset: bridge_objective(config, dataset), on_update)
