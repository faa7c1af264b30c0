"""SFT: cross-entropy on the teacher's samples, the baseline that spends no teacher logprobs.

python -m trainers sft --dataset datasets/NAME --student FOLDER --output runs/NAME
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from trainers import run
from trainers.batches import MicroBatch
from trainers.config import SFTConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.losses.sft import cross_entropy
from trainers.losses.support import Support, sampled_logprobs
from trainers.student import Student
from trainers.update import TOKEN_COLUMNS, TokenMean


class CrossEntropyObjective(TokenMean):
    """Cross-entropy of the response tokens; see `trainers.losses.sft`."""

    columns: tuple[str, ...] = TOKEN_COLUMNS
    sums: tuple[str, ...] = ("loss", "entropy")

    def __call__(self, student: Student, batch: MicroBatch) -> Mapping[str, Tensor]:
        """Sums over the micro-batch."""

        def sums(support: Support, _: slice) -> Mapping[str, Tensor]:
            loss = cross_entropy(sampled_logprobs(support))
            return {"loss": loss, "entropy": support.entropy_N.sum()}

        return student.sums(batch, batch.targets[:, None], sums)


def train_sft(config: SFTConfig, on_update: OnUpdate | None = None) -> TrainResult:
    """Train a student on a locked `sft` or `warmup` dataset; continues the run in `config.output`.

    Raises:
        S2DError: see `trainers.run.run`.
    """
    return run.run(config, "sft", lambda _: CrossEntropyObjective(), on_update)
