"""The objective of the dense bridge: a KL on the support that the dataset holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from trainers.batches import MicroBatch
from trainers.losses import Tail
from trainers.losses.support import KLSums, Support
from trainers.student import Student
from trainers.update import TOPK_COLUMNS, TokenMean


class SupportKLObjective(TokenMean):
    """Forward or reverse KL; see `trainers.losses.forward_kl` and `trainers.losses.reverse_kl`."""

    columns: tuple[str, ...] = TOPK_COLUMNS
    sums: tuple[str, ...] = ("loss", "kl", "entropy", "topk_mass")

    def __init__(self, divergence: Callable[..., KLSums], tail: Tail) -> None:
        """Use `forward_kl` or `reverse_kl`."""
        self._divergence, self._tail = divergence, tail

    def __call__(self, student: Student, batch: MicroBatch) -> Mapping[str, Tensor]:
        """Sums over the micro-batch; `topk_mass` is the student's on the support."""

        def sums(support: Support, rows: slice) -> Mapping[str, Tensor]:
            ids, logprobs = batch.topk_ids[rows], batch.topk_logprobs[rows]
            result = self._divergence(support, ids, logprobs, self._tail)
            return {
                "loss": result.loss,
                "kl": result.kl,
                "entropy": result.entropy,
                "topk_mass": result.student_mass,
            }

        return student.sums(batch, batch.topk_ids, sums)
