"""Reading ahead of the step: pinned copies against pageable ones, and what of them is hidden."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor

from benchmarks.gpu.findings import Recorder
from benchmarks.gpu.setting import MIDDLE, Setting
from benchmarks.gpu.training import (
    OneProcess,
    cosine,
    flat_gradient,
    gradient_of,
    make_model,
    objective_of,
    seconds,
    synchronize,
    write_rows,
)
from s2d_store.datasets.read import UpdateRows
from trainers.batches import MicroBatch, micro_batches
from trainers.config import WarmupConfig
from trainers.student import Student
from trainers.update import Objective, own_micro_batches

GIB = 1 << 30


def pinned_reading(setting: Setting, found: Recorder) -> None:
    """Time copies of micro-batches, and an update with and without reading ahead."""
    shape, device = setting.shape(MIDDLE), setting.torch_device
    student_folder = make_model(setting.scratch / "student", shape)
    rows_of_update = [(16, setting.size(1000, 8))] * setting.size(64, 6)
    dataset = write_rows(
        setting.scratch / "rows", [rows_of_update] * setting.size(4, 2), shape.vocab
    )
    config = WarmupConfig(
        dataset=str(dataset.folder),
        student=str(student_folder),
        output="unused",
        max_tokens_per_micro_batch=setting.size(8192, 64),
    )
    student = Student.load(config, device, bf16=setting.device == "cuda")
    _copies(setting, found, dataset, student, config)

    reading = _Reading(student, config, objective_of(config, dataset))
    in_turn, alone, ahead = [], [], []
    for rows in dataset.updates(columns=list(reading.objective.columns)):
        in_turn.append(seconds(partial(reading.one_by_one, rows), device))
        expected = flat_gradient(student.model)
        ready = [b.to(device) for b in micro_batches(rows, reading.limit, student.layout)]
        alone.append(seconds(partial(reading.step_by_step, rows, ready), device))
        del ready
        read_ahead = partial(gradient_of, rows, student, reading.objective, config)
        ahead.append(seconds(read_ahead, device))
        similar = cosine(expected, flat_gradient(student.model))
        found.require(similar > 0.9999, f"update {rows.update}: read ahead, cosine {similar:.5f}")
    # The first update also starts kernels and reads files for the first time.
    turn, compute, over = (statistics.median(times[1:]) for times in (in_turn, alone, ahead))
    found.figure("an update, each step after the other", f"{turn:.4f} s")
    found.figure("the same, batches on the device beforehand", f"{compute:.4f} s")
    found.figure("the same, read ahead as trainers do", f"{over:.4f} s")
    found.figure(
        "of the reading, hidden behind the step", f"{(turn - over) / max(turn - compute, 1e-9):.2f}"
    )


@dataclass(frozen=True)
class _Reading:
    """An update's gradient without reading ahead."""

    student: Student
    config: WarmupConfig
    objective: Objective

    @property
    def limit(self) -> int:
        """Tokens of a micro-batch."""
        return self.config.max_tokens_per_micro_batch

    def one_by_one(self, rows: UpdateRows) -> None:
        """Read, pin, copy, compute; then the next micro-batch."""
        process: Any = OneProcess(self.student.model.device)
        own = own_micro_batches(rows, self.student, process, self.limit)
        self.step_by_step(rows, (batch for batch, _ in own))

    def step_by_step(self, rows: UpdateRows, batches: Iterable[MicroBatch]) -> None:
        """Compute one micro-batch, wait, take the next."""
        device = self.student.model.device
        self.student.model.zero_grad()
        tokens = self.objective.denominator(rows)
        for batch in batches:
            loss = self.objective(self.student, batch.to(device))["loss"] / tokens
            loss.backward()
            synchronize(device)


def _copies(
    setting: Setting, found: Recorder, dataset: Any, student: Student, config: WarmupConfig
) -> None:
    """Bytes per second from pageable and from pinned memory, and what pinning takes."""
    device = setting.torch_device
    limit, layout = config.max_tokens_per_micro_batch, student.layout
    batches = list(chain.from_iterable(micro_batches(r, limit, layout) for r in dataset.updates()))
    size = sum(sum(t.nbytes for t in _tensors(batch)) for batch in batches)
    found.figure("a micro-batch with a teacher's top-k", f"{size / len(batches) / 2**20:.1f} MiB")
    pinned = [batch.pin(device) for batch in batches]
    if device.type == "cuda":
        found.require(all(t.is_pinned() for b in pinned for t in _tensors(b) if t.numel()), "pin")
    timed = {
        "copy from pageable memory": lambda: [batch.to(device) for batch in batches],
        "copy from pinned memory": lambda: [batch.to(device) for batch in pinned],
        "pin": lambda: [batch.pin(device) for batch in batches],
    }
    for name, function in timed.items():
        median = statistics.median(seconds(function, device) for _ in range(3))
        found.figure(name, f"{size / max(median, 1e-9) / GIB:.2f} GiB/s")


def _tensors(batch: MicroBatch) -> list[Tensor]:
    values = (getattr(batch, f.name) for f in fields(batch))
    return [value for value in values if isinstance(value, Tensor)]
