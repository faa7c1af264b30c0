"""One optimizer update: from its rows to its gradient, its means and its guards.

The gradient is of (sum of the losses of all trained tokens) / (the objective's denominator), both
over the whole update and all processes: how rows fall into micro-batches changes nothing but
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.tensor import DTensor

from s2d_store.datasets.prefetch import prefetch
from s2d_store.datasets.read import UpdateRows
from s2d_store.errors import DatasetError, S2DError, TrainingError
from trainers.batches import (
    MicroBatch,
    assign_rows_to_ranks,
    micro_batches,
    sequence_lengths,
    trained_lengths,
)
from trainers.config import TrainerConfig
from trainers.packing import row_groups
from trainers.runtime import sum_over_ranks
from trainers.student import Student

# What an objective reads of every dataset, and of one with a teacher's top-k.
TOKEN_COLUMNS = ("prompt_token_ids", "response_token_ids")
TOPK_COLUMNS = (*TOKEN_COLUMNS, "k", "topk_token_ids", "topk_logprobs")
_ID_COLUMNS = ("prompt_token_ids", "response_token_ids", "topk_token_ids")


class Objective(Protocol):
    """What a trainer adds to the loop.

    Attributes:
        columns: dataset columns that it needs.
        sums: names of what it returns, `loss` among them.
        recompute_at: temperature of the logprobs that the trainer computes before its first update
            and adds to the rows, see `trainers.recompute`; 0 for none.
    """

    columns: tuple[str, ...]
    sums: tuple[str, ...]
    recompute_at: float

    def __call__(self, student: Student, batch: MicroBatch) -> Mapping[str, Tensor]:
        """Sum over a micro-batch's trained tokens, 0-d tensors; only `loss` has a gradient."""
        ...

    def denominator(self, rows: UpdateRows) -> float:
        """What the update's loss is divided by; everything else is a mean over its tokens."""
        ...


class TokenMean:
    """The usual denominator: the update's trained tokens."""

    recompute_at: float = 0.0

    def denominator(self, rows: UpdateRows) -> float:
        """Trained tokens of the update."""
        return float(trained_lengths(rows).sum())


def accumulate_gradients(
    rows: UpdateRows,
    student: Student,
    objective: Objective,
    accelerator: Accelerator,
    config: TrainerConfig,
) -> dict[str, float]:
    """Leave the update's gradient in the parameters; return its loss and the other sums' means."""
    n_tokens = int(trained_lengths(rows).sum())
    loss_over = objective.denominator(rows)
    rank, device = accelerator.process_index, accelerator.device
    # The random state depends on nothing before, so a resumed run draws what the first one did.
    state = np.random.SeedSequence([config.seed, rows.update, rank]).generate_state(1, np.uint32)
    torch.manual_seed(int(state[0]))
    parameters = [p for p in student.model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = None

    totals = torch.zeros(len(objective.sums), device=device)
    limit = config.max_tokens_per_micro_batch
    # The next micro-batch is built and pinned while this one is computed.
    for batch, share in prefetch(
        own_micro_batches(rows, student, accelerator, limit), "pack-ahead"
    ):
        sums = student.run(partial(objective, student, batch.to(device)))
        (sums["loss"] * share / loss_over).backward()  # type: ignore[no-untyped-call]
        totals += share * torch.stack([sums[name].detach() for name in objective.sums])
    # A rank without rows has gradients too.
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    # Where weights are sharded, the backward pass has summed their gradients already.
    gradients = [] if student.sharded else gradients
    sum_over_ranks(accelerator, [totals, *gradients])
    over = [loss_over if name == "loss" else n_tokens for name in objective.sums]
    means = (totals / torch.tensor(over, dtype=totals.dtype, device=device)).tolist()
    return dict(zip(objective.sums, means, strict=True))


def own_micro_batches(
    rows: UpdateRows, student: Student, accelerator: Accelerator, limit: int
) -> Generator[tuple[MicroBatch, float], None, None]:
    """This process's micro-batches, pinned for a GPU, each with 1.

    Where weights are sharded, every process must run equally often: those with fewer micro-batches
    repeat the update's shortest row, with 0.
    """
    lengths, layout, device = sequence_lengths(rows), student.layout, accelerator.device
    rank = accelerator.process_index
    shares = assign_rows_to_ranks(lengths, accelerator.num_processes)
    # A process that refuses its own rows alone must not wait for the others at a checkpoint.
    error = TrainingError if accelerator.num_processes == 1 else DatasetError
    check = partial(check_ids, vocab_size=student.vocab_size, error=error)
    for batch in micro_batches(rows, limit, layout, shares[rank], check):
        yield batch.pin(device), 1.0
    if not student.sharded:
        return
    turns = [len(list(row_groups(lengths, limit, layout, share))) for share in shares]
    for _ in range(max(turns) - turns[rank]):
        repeated = next(micro_batches(rows, limit, layout, [int(lengths.argmin())]))
        yield repeated.pin(device), 0.0


def step(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Take the optimizer step at a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def clip_gradients(model: torch.nn.Module, max_norm: float) -> float:
    """Scale the gradient down to `max_norm` (0 leaves it); return its norm before."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm or math.inf)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def check_rows(rows: UpdateRows, expected: int, student: Student) -> None:
    """Refuse rows that cannot be trained on, before any of them is; `check_ids` sees those tokens
    that are read a micro-batch at a time.

    Raises:
        DatasetError: updates are not numbered one by one, or there is no response token.
        TrainingError: an id outside the student's vocabulary, or a sequence too long for it.
    """
    if rows.update != expected or trained_lengths(rows).sum() == 0:
        raise DatasetError(
            f"update {expected} has no response token to train on",
            f"the next rows are of update {rows.update}"
            + (", whose response_mask keeps none" if rows.update == expected else ""),
            "s2d dataset verify NAME; rebuild the dataset",
        )
    check_ids(rows, student.vocab_size)
    longest = int(sequence_lengths(rows).max())
    if longest > student.max_length:
        raise TrainingError(
            f"update {rows.update} has a sequence of {longest} tokens",
            f"the student has {student.max_length} positions",
            "rebuild the dataset with a limit on the tokens of a row",
        )


def check_ids(rows: UpdateRows, vocab_size: int, error: type[S2DError] = TrainingError) -> None:
    """Refuse ids outside the student's vocabulary, of the columns that are read.

    Raises:
        S2DError: of the kind given, naming the column and its range.
    """
    for name in _ID_COLUMNS:
        if name not in rows.lists or name in rows.waiting or not len(rows.lists[name][0]):
            continue
        ids = rows.lists[name][0]
        low, high = int(ids.min()), int(ids.max())
        if high >= vocab_size or low < (-1 if name == "topk_token_ids" else 0):
            raise error(
                f"update {rows.update} has {name} from {low} to {high}",
                f"the student's vocabulary has {vocab_size} entries",
                "train a student that has the tokenizer the dataset was sampled and scored with",
            )


def guard(update: int, means: Mapping[str, float], grad_norm: float, max_kl: float) -> None:
    """Stop before a step that would spoil the weights.

    Raises:
        TrainingError: a mean or the gradient is not finite, or the KL is above `max_kl`.
    """
    if not all(math.isfinite(value) for value in (*means.values(), grad_norm)):
        raise TrainingError(
            f"update {update} has loss {means['loss']:.4g} and gradient norm {grad_norm:.4g}",
            "the weights are kept as they were before it, in the newest checkpoint",
            "inspect the update's rows; or start again in another --output with a lower --lr",
        )
    if means.get("kl", 0.0) > max_kl:
        raise TrainingError(
            f"update {update} has a KL of {means['kl']:.4g} nats per token, above {max_kl:.4g}",
            "the weights are kept as they were before it, in the newest checkpoint",
            "start again in another --output with a lower --lr, or continue with a higher --max-kl",
        )


def guard_length(rows: UpdateRows, first: float, max_ratio: float) -> None:
    """Stop before an update whose responses have run away in length.

    A dataset on a student's own rollouts shows here what its sampling gave: a policy that has
    learned to ramble, or no longer ends, is not trained further on it.

    Args:
        rows: the update's.
        first: response tokens per row of the first update, of the first of the runs that go on with
            one optimizer.
        max_ratio: largest ratio to `first`; 0 never stops.

    Raises:
        TrainingError: the update's responses are longer on average.
    """
    mean = mean_response(rows)
    if max_ratio and mean > max_ratio * first:
        raise TrainingError(
            f"update {rows.update} has responses of {mean:.4g} tokens on average, above "
            f"{max_ratio:.4g} times the first update's {first:.4g}",
            "the weights are kept as they were before it, in the newest checkpoint",
            "read some of its rows (s2d dataset export); sample anew from an earlier policy, or "
            "continue with a higher --max-length-ratio (0 never stops)",
        )


def mean_response(rows: UpdateRows) -> float:
    """Response tokens per row."""
    return float(rows.lengths("response_token_ids").mean())


def describe(rows: UpdateRows) -> dict[str, Any]:
    """What an update consumed: its number, rows, tokens and distinct labelled prompts.

    `trained_tokens` are the response tokens that `response_mask` keeps; `squared_tokens` sums the
    squares of the rows' whole lengths, which attention's cost grows with.
    """
    labels = 0
    prompts, responses = rows.lengths("prompt_token_ids"), rows.lengths("response_token_ids")
    if "labelled" in rows.scalars:
        labels = len(set(rows.scalars["prompt_id"][rows.scalars["labelled"].astype(bool)]))
    return {
        "update": rows.update,
        "rows": rows.n_rows,
        "prompt_tokens": int(prompts.sum()),
        "response_tokens": int(responses.sum()),
        "squared_tokens": int(((prompts + responses) ** 2).sum()),
        "trained_tokens": int(trained_lengths(rows).sum()),
        "labels": labels,
    }
