"""The training loop: one pass over a locked dataset, one optimizer step an update."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import DatasetError, TrainingError
from trainers import sharding
from trainers.atomic_files import disk_errors, lock_folder, sweep
from trainers.batches import RESPONSE_MASK
from trainers.checkpoint import (
    CheckpointState,
    checkpoint_behind,
    latest_checkpoint,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from trainers.config import TrainerConfig
from trainers.export_model import save_final
from trainers.partial import Extent, extent
from trainers.recompute import OldLogprobs, read_recomputed, recompute, with_old
from trainers.schedule import lr_factor
from trainers.student import Student
from trainers.update import (
    Objective,
    accumulate_gradients,
    check_rows,
    clip_gradients,
    describe,
    guard,
    guard_length,
    mean_response,
    step,
)
from trainers.updates_log import UpdatesLog

OnUpdate = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainResult:
    """What a finished run gave.

    Attributes:
        output: the run's folder.
        final: folder of the trained model and its tokenizer.
        updates: optimizer updates, all of the dataset's but a last one that was dropped.
        resumed_update: the update that this process continued after; 0 for a fresh start.
        rows: rows trained on, over the whole run, as are the two below.
        prompt_tokens: tokens read as context.
        response_tokens: tokens of the responses.
    """

    output: Path
    final: Path
    updates: int
    resumed_update: int
    rows: int
    prompt_tokens: int
    response_tokens: int


def train(
    config: TrainerConfig,
    dataset: LockedDataset,
    objective: Objective,
    accelerator: Accelerator,
    on_update: OnUpdate | None = None,
) -> TrainResult:
    """Train from the newest checkpoint (or the start) to the dataset's last update, and save.

    A dataset without updates, as a round's whose groups all have equal rewards, takes none: the
    student is saved as it is, and a run that goes on from it has its optimizer and schedule.

    Args:
        config: the trainer's config.
        dataset: rows and schedule.
        objective: the trainer's own part.
        accelerator: see `trainers.runtime`.
        on_update: called on the main process with each line of `updates.jsonl`; after a resume it
            sees again the updates since the checkpoint.

    Raises:
        TrainingError: a checkpoint of another run, rows that do not fit the student, or a loss
            that is not finite or too high; another process trains into the folder, or the disk is
            full.
        DatasetError: an update without rows or response tokens.
    """
    output = Path(config.output)
    with ExitStack() as stack:
        if accelerator.is_main_process:
            with disk_errors(output):
                output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_folder(output))
            with disk_errors(output):
                sweep(output)
        accelerator.wait_for_everyone()
        return _train(config, dataset, objective, accelerator, on_update)


def _train(
    config: TrainerConfig,
    dataset: LockedDataset,
    objective: Objective,
    accelerator: Accelerator,
    on_update: OnUpdate | None,
) -> TrainResult:
    output, trained = Path(config.output), extent(dataset, config.partial_update)
    found = latest_checkpoint(output, dataset.lock.fingerprint, config)
    resumed = found[1] if found else 0
    final = output / "final"
    if not (resumed == trained.updates and final.exists()):
        bf16 = accelerator.mixed_precision == "bf16"
        start, state = _start(config, dataset, found[0] if found else None)
        sharded = accelerator.num_processes > 1 and sharding.fsdp_requested()
        student = Student.load(config, accelerator.device, bf16, state.base, sharded)
        optimizer = make_optimizer(student.model, config)
        if start is not None:
            load_checkpoint(start, student.model, optimizer)
        old = None
        if objective.recompute_at and trained.updates:
            limit, at = config.max_tokens_per_micro_batch, objective.recompute_at
            old = (
                read_recomputed(output)
                if resumed
                else recompute(dataset, student, accelerator, output, limit, at)
            )
        run = _Run(config, dataset, trained, student, optimizer, accelerator, on_update, state, old)
        # Only the main process writes the log: others would cut it back under its feet.
        main = accelerator.is_main_process
        with UpdatesLog(output / "updates.jsonl", resumed) if main else nullcontext() as log:
            run.train(objective, resumed, log)
        with disk_errors(output):
            save_final(student, final, config, main)
        accelerator.wait_for_everyone()
    return TrainResult(
        output=output,
        final=final,
        updates=trained.updates,
        resumed_update=resumed,
        rows=trained.rows,
        prompt_tokens=trained.prompt_tokens,
        response_tokens=trained.response_tokens,
    )


def _start(
    config: TrainerConfig, dataset: LockedDataset, found: Path | None
) -> tuple[Path | None, CheckpointState]:
    """The checkpoint to load, if any, and the state of the run as it starts from there.

    Args:
        config: the run's.
        dataset: its dataset.
        found: its own newest checkpoint.
    """
    mine: dict[str, Any] = {
        "update": 0,
        "dataset_fingerprint": dataset.lock.fingerprint,
        "config": config.identity(),
    }
    if found is not None:
        return found, read_state(found)
    if config.continue_optimizer:
        behind = checkpoint_behind(config)
        state = read_state(behind)
        mine["updates_before"] = state.updates_before + state.update
        base = state.base if config.lora_rank else config.student
        mine["first_length"] = state.first_length or _first_length(dataset)
        return behind, replace(state, base=base, **mine)
    return None, CheckpointState(base=config.student, first_length=_first_length(dataset), **mine)


def _first_length(dataset: LockedDataset) -> float:
    """Response tokens per row of the first update; 0 if there is none."""
    if not dataset.lock.counts["updates"]:
        return 0.0
    return mean_response(next(dataset.updates(1, ["response_token_ids"])))


def make_optimizer(model: torch.nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


@dataclass(frozen=True)
class _Run:
    """What stays the same from update to update."""

    config: TrainerConfig
    dataset: LockedDataset
    extent: Extent
    student: Student
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    on_update: OnUpdate | None
    started: CheckpointState
    old: OldLogprobs | None

    def train(self, objective: Objective, resumed: int, log: UpdatesLog | None) -> None:
        """Take every update after `resumed`."""
        config, lock = self.config, self.dataset.lock
        n_updates, expected = self.extent.updates, resumed + 1
        schedule = config.schedule_updates or self.started.updates_before + n_updates
        if not n_updates:
            self._checkpoint(0, log)
        for rows in self._rows(expected, objective):
            started = time.perf_counter()
            check_rows(rows, expected, self.student)
            try:
                guard_length(rows, self.started.first_length, config.max_length_ratio)
                means, grad_norm = self._gradients(rows, objective)
            except TrainingError:
                self._checkpoint(expected - 1, log)
                raise
            factor = lr_factor(
                self._scheduled(expected), schedule, config.lr_schedule, config.lr_warmup_updates
            )
            factor *= self.extent.factor(expected)
            step(self.optimizer, config.lr * factor)
            seconds = time.perf_counter() - started
            record = {**describe(rows), **means, "grad_norm": grad_norm}
            self._record({**record, "lr": config.lr * factor, "seconds": seconds}, log)
            if expected % config.checkpoint_every_updates == 0 or expected == n_updates:
                self._checkpoint(expected, log)
            expected += 1
        if expected != n_updates + 1:
            raise DatasetError(
                f"dataset {lock.name} ends after update {expected - 1}",
                f"its lock says {n_updates}",
                f"s2d dataset verify {lock.name}; rebuild it",
            )

    def _scheduled(self, update: int) -> float:
        """Which update of the schedule an update is."""
        config = self.config
        if not config.schedule_span:
            return self.started.updates_before + update
        return config.schedule_start + update * config.schedule_span / self.extent.updates

    def _gradients(self, rows: UpdateRows, objective: Objective) -> tuple[dict[str, float], float]:
        """Leave an update's gradient in the parameters, clipped; its means and norm, guarded."""
        config, student = self.config, self.student
        means = accumulate_gradients(rows, student, objective, self.accelerator, config)
        grad_norm = clip_gradients(student.model, config.grad_clip_norm)
        guard(rows.update, means, grad_norm, config.max_kl)
        return means, grad_norm

    def _rows(self, first: int, objective: Objective) -> Iterator[UpdateRows]:
        """The rows of every update from `first` on that is trained on."""
        if first > self.extent.updates:
            return
        for rows in self.dataset.updates(first, self._columns(objective)):
            if rows.update > self.extent.updates and self.extent.drops:
                return
            yield rows if self.old is None else with_old(rows, self.old)

    def _columns(self, objective: Objective) -> list[str]:
        has = self.dataset.columns
        labels = [name for name in ("prompt_id", "labelled") if "labelled" in has]
        mask = [RESPONSE_MASK] if RESPONSE_MASK in has else []
        return list(dict.fromkeys([*objective.columns, *labels, *mask]))

    def _record(self, record: dict[str, Any], log: UpdatesLog | None) -> None:
        if log is None:
            return
        with disk_errors(Path(self.config.output)):
            log.append(record)
        self.accelerator.log(record, step=record["update"])
        if self.on_update is not None:
            self.on_update(record)

    def _checkpoint(self, update: int, log: UpdatesLog | None) -> None:
        state = replace(self.started, update=update)
        output, keep = Path(self.config.output), self.config.keep_checkpoints
        main = self.accelerator.is_main_process
        with disk_errors(output):
            if log is not None:
                log.sync()
            save_checkpoint(output, self.student.model, self.optimizer, state, keep, main)
        self.accelerator.wait_for_everyone()
