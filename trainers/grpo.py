"""GRPO, stages 1 and 3: clipped policy gradient on groups whose advantages the dataset holds.

python -m trainers.grpo --dataset datasets/NAME --student FOLDER --output runs/NAME
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from torch import Tensor

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import InputError
from trainers import run
from trainers.batches import POLICY_LOGPROBS, MicroBatch
from trainers.config import GRPOConfig
from trainers.loop import OnUpdate, TrainResult
from trainers.losses.grpo import denominator, grpo, token_weights
from trainers.losses.support import Support, sampled_logprobs
from trainers.student import Student
from trainers.update import TOKEN_COLUMNS


class GRPOObjective:
    """GRPO's objective; see `trainers.losses.grpo`."""

    columns: tuple[str, ...] = (*TOKEN_COLUMNS, POLICY_LOGPROBS, "advantage")
    sums: tuple[str, ...] = ("loss", "kl", "entropy", "clip_fraction")

    def __init__(self, config: GRPOConfig, normalisation: str) -> None:
        self._config, self._normalisation = config, normalisation

    def __call__(self, student: Student, batch: MicroBatch) -> Mapping[str, Tensor]:
        """Sums over the micro-batch; `kl` is from the sampling policy to the student."""
        # By the length of whole responses, which a block of tokens does not know.
        weights_R = token_weights(self._normalisation, batch.sequence_ids)

        def sums(support: Support, rows: slice) -> Mapping[str, Tensor]:
            result = grpo(
                sampled_logprobs(support),
                batch.policy_logprobs[rows],
                batch.advantages[rows],
                weights_R[rows],
                *self._config.clip,
            )
            return {
                "loss": result.loss,
                "kl": result.kl,
                "entropy": support.entropy_N.sum(),
                "clip_fraction": result.clipped.to(result.kl.dtype),
            }

        return student.sums(batch, batch.targets[:, None], sums)

    def denominator(self, rows: UpdateRows) -> float:
        """Responses, tokens, or responses times the constant."""
        tokens = int(rows.lengths("response_token_ids").sum())
        constant = self._config.max_response_tokens
        return denominator(self._normalisation, rows.n_rows, tokens, constant)


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
        lambda dataset: GRPOObjective(config, normalisation_of(config, dataset)),
        on_update,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return run.main(GRPOConfig, "trainers.grpo", train_grpo, arguments)


if __name__ == "__main__":
    sys.exit(main())
