"""Logprobs of a dataset's responses under the weights that a run starts from.

What was stored at sampling comes from another engine, perhaps in another precision. Recomputed
here, before the first update, they are what the trainer itself gives, and kept in the run's folder,
so that a continued run has the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import TrainingError
from trainers.atomic_files import disk_errors, sync
from trainers.batches import OLD_LOGPROBS
from trainers.runtime import sum_over_ranks
from trainers.student import Student
from trainers.update import TOKEN_COLUMNS, own_micro_batches

FILE = "old_logprobs.parquet"
# Rollout id -> float32 (response tokens,). A float per response token of the dataset is held.
OldLogprobs = Mapping[str, NDArray[np.float32]]


def recompute(
    dataset: LockedDataset,
    student: Student,
    accelerator: Accelerator,
    output: Path,
    max_tokens: int,
    temperature: float,
) -> OldLogprobs:
    """Run the student, as it is now, over every rollout of the dataset once, and keep the result.

    Every process calls this, each computes its share, and all get the whole.

    Args:
        dataset: its rows; a rollout that it repeats is computed once.
        student: with the weights of the run's start.
        accelerator: see `trainers.runtime`.
        output: the run's folder.
        max_tokens: most token slots of a forward pass.
        temperature: what the logits are divided by.
    """
    found: dict[str, NDArray[np.float32]] = {}
    with student.evaluating():
        for rows in dataset.updates(1, [*TOKEN_COLUMNS, "rollout_id"]):
            ids = rows.scalars["rollout_id"].tolist()
            if all(rollout in found for rollout in ids):
                continue
            values = _of_update(rows, student, accelerator, max_tokens, temperature)
            offsets = rows.lists["response_token_ids"][1]
            for row, rollout in enumerate(ids):
                found[rollout] = values[offsets[row] : offsets[row + 1]]
    if accelerator.is_main_process:
        with disk_errors(output):
            _save(output / FILE, found)
    accelerator.wait_for_everyone()
    return found


def read_recomputed(output: Path) -> OldLogprobs:
    """What `recompute` kept when the run in this folder started.

    Raises:
        TrainingError: it is gone.
    """
    path = output / FILE
    if not path.is_file():
        raise TrainingError(
            f"{path} is missing",
            "importance_cap continues with the logprobs that were recomputed when the run started",
            "start again in another --output",
        )
    table = pq.read_table(path)
    lists = table.column(OLD_LOGPROBS).combine_chunks()
    values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    ids = table.column("rollout_id").to_pylist()
    return {name: values[offsets[i] : offsets[i + 1]] for i, name in enumerate(ids)}


def with_old(rows: UpdateRows, old: OldLogprobs) -> UpdateRows:
    """Add the column of recomputed logprobs to an update's rows."""
    parts = [old[rollout] for rollout in rows.scalars["rollout_id"].tolist()]
    offsets = rows.lists["response_token_ids"][1]
    return replace(rows, lists={**rows.lists, OLD_LOGPROBS: (np.concatenate(parts), offsets)})


def _of_update(
    rows: UpdateRows,
    student: Student,
    accelerator: Accelerator,
    max_tokens: int,
    temperature: float,
) -> NDArray[np.float32]:
    """Logprobs of an update's response tokens, row after row, summed from all processes' shares."""
    offsets = rows.lists["response_token_ids"][1]
    values = torch.zeros(int(offsets[-1]), device=accelerator.device)
    starts = torch.from_numpy(offsets[:-1].copy())
    for batch, share in own_micro_batches(rows, student, accelerator, max_tokens):
        there = batch.to(accelerator.device)
        logprobs = student.run(partial(student.logprobs, there, temperature))
        if share:
            # A row's tokens lie together, in the batch as in the update.
            first = torch.searchsorted(batch.sequence_ids, batch.sequence_ids)
            place = starts[batch.rows[batch.sequence_ids]] + torch.arange(len(first)) - first
            values[place.to(values.device)] = logprobs.float()
    sum_over_ranks(accelerator, [values])
    found: NDArray[np.float32] = values.cpu().numpy()
    return found


def _save(path: Path, found: OldLogprobs) -> None:
    column = pa.array(list(found.values()), pa.list_(pa.float32()))
    table = pa.table({"rollout_id": pa.array(list(found), pa.string()), OLD_LOGPROBS: column})
    scratch = path.with_name(path.name + ".new")
    pq.write_table(table, scratch)
    sync(scratch)
    scratch.replace(path)
