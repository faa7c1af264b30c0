"""Tokens per second and memory of each trainer, on rows of 1k and of 8k tokens, and TRL's."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from benchmarks.fused_loss import Peak
from benchmarks.gpu.findings import Recorder
from benchmarks.gpu.setting import REAL, Setting
from benchmarks.gpu.training import (
    configs,
    gradient_of,
    make_model,
    objective_of,
    synchronize,
    write_rows,
)
from s2d_store.datasets.read import LockedDataset
from trainers.loop import make_optimizer
from trainers.student import Student
from trainers.torch_dataset import LockedRows
from trainers.update import clip_gradients, step

GIB = 1 << 30
N_UPDATES = 4
# TRL's trainers on a locked dataset (examples/trl), by the trainer of s2d that has their loss.
EXAMPLE = Path(__file__).parents[2] / "examples" / "trl"
PEERS = {"SFT": "LockedSFTTrainer", "warmup": "ForwardKLTrainer"}


def trainers_on_1k_rows(setting: Setting, found: Recorder) -> None:
    """Every trainer on rows of 1,024 tokens."""
    _on_rows(setting, found, setting.size(1024, 12), setting.size(16, 2))


def trainers_on_8k_rows(setting: Setting, found: Recorder) -> None:
    """Every trainer on rows of 8,192 tokens."""
    _on_rows(setting, found, setting.size(8192, 24), setting.size(2, 2))


def _on_rows(setting: Setting, found: Recorder, length: int, rows: int) -> None:
    student_folder = Path(setting.model) if setting.model else setting.scratch / "student"
    if not setting.model:
        make_model(student_folder, setting.shape(REAL))
    vocab = AutoConfig.from_pretrained(student_folder).vocab_size
    lengths = [[(length // 8, length - length // 8)] * rows] * N_UPDATES
    dataset = write_rows(setting.scratch / "rows", lengths, vocab)
    passes = max(length, setting.size(8192, 24))
    told = {"max_tokens_per_micro_batch": passes, "gradient_checkpointing": True}
    for name, config in configs(dataset, student_folder, **told):
        peak = Peak(setting.device)
        student = Student.load(config, setting.torch_device, bf16=setting.device == "cuda")
        peak.start()
        times = _own_updates(config, dataset, student)
        _report(found, name, length, rows, times, peak)
        del student
        peer = PEERS.get(name)
        if peer and importlib.util.find_spec("trl"):
            peak = Peak(setting.device)
            peak.start()
            times = _trl_updates(setting, peer, student_folder, dataset, rows * length // passes)
            _report(found, f"TRL's {peer}", length, rows, times, peak)
    if importlib.util.find_spec("trl") is None:
        found.skip("TRL's trainers: the package trl is not installed")


def _own_updates(config: Any, dataset: LockedDataset, student: Student) -> list[float]:
    """Seconds of each update, reading included."""
    optimizer, objective = make_optimizer(student.model, config), objective_of(config, dataset)
    device, times = student.model.device, []
    began = time.perf_counter()
    for rows in dataset.updates(columns=list(objective.columns)):
        gradient_of(rows, student, objective, config)
        clip_gradients(student.model, config.grad_clip_norm)
        step(optimizer, config.lr)
        synchronize(device)
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
    return times


def _trl_updates(
    setting: Setting, peer: str, student: Path, dataset: LockedDataset, passes: int
) -> list[float]:
    """Seconds of each update by TRL's trainer on the same rows, in as many forward passes."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        import locked_trainers
    finally:
        sys.path.remove(str(EXAMPLE))
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronize(setting.torch_device)
            times.append(time.perf_counter() - self.began)

    locked = LockedRows(str(dataset.folder), topk=peer == PEERS["warmup"])
    on_cpu = setting.device == "cpu"
    getattr(locked_trainers, peer)(
        model=AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(student),
        rows=locked,
        callbacks=[Clock()],
        args=locked_trainers.config_for(
            locked,
            output_dir=str(setting.scratch / "trl"),
            gradient_accumulation_steps=max(1, passes),
            use_cpu=on_cpu,
            bf16=not on_cpu,
            gradient_checkpointing=True,
            disable_tqdm=True,
        ),
    ).train()
    return times


def _report(
    found: Recorder, name: str, length: int, rows: int, times: list[float], peak: Peak
) -> None:
    # The first update starts kernels and makes the optimizer's state.
    tokens_per_s = length * rows / statistics.median(times[1:])
    memory = peak.bytes() / GIB
    value = f"{tokens_per_s:,.0f} tokens/s, {memory:.2f} GiB at most"
    found.figure(f"{name}, rows of {length:,} tokens", value)
