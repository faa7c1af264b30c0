"""The same numbers on the device as in float32 on the CPU: trainers in bf16, packed attention."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import is_flash_attn_2_available

from benchmarks.gpu.findings import Recorder
from benchmarks.gpu.setting import MIDDLE, Setting
from benchmarks.gpu.training import (
    configs,
    cosine,
    flat_gradient,
    gradient_of,
    make_model,
    objective_of,
    write_rows,
)
from s2d_store.datasets.read import LockedDataset
from trainers.config import WarmupConfig
from trainers.loop import make_optimizer
from trainers.student import Student
from trainers.update import clip_gradients, step

LR = 1e-4
# bf16 has 8 bits of mantissa: products are off by up to 2^-9 each, and logits of some tens by a
# tenth of a nat. A wrong mask, shift or scale costs far more.
LEAST_COSINE = 0.98
MOST_LOSS_OFF = 0.03
# Packed and padded rows go through other kernels in bf16; another sequence's tokens would show.
LEAST_PACKED_COSINE = 0.995


@dataclass(frozen=True)
class Trained:
    """Some updates of a trainer.

    Attributes:
        losses: of each update, before its step.
        gradient: of the first update, flat.
        moved: weights after the last update minus those before the first, flat.
    """

    losses: list[float]
    gradient: Tensor
    moved: Tensor


def trainers_in_bf16(setting: Setting, found: Recorder) -> None:
    """Train by every trainer in bf16 on the device and in float32 on the CPU, and compare."""
    student = make_model(setting.scratch / "student", setting.shape(MIDDLE))
    dataset = _policy_rows(setting, student)
    for name, config in configs(dataset, student, lr=LR, max_tokens_per_micro_batch=2048):
        exact = train(config, dataset, torch.device("cpu"), bf16=False)
        rounded = train(config, dataset, setting.torch_device, bf16=True)
        off = max(
            abs(a - b) / max(1.0, abs(a)) for a, b in zip(exact.losses, rounded.losses, strict=True)
        )
        similar = cosine(exact.gradient, rounded.gradient)
        size = float(rounded.gradient.norm() / exact.gradient.norm())
        ends = f"{exact.losses[0]:.4f} to {exact.losses[-1]:.4f}"
        found.figure(f"{name}: loss of float32 over {len(exact.losses)} updates", ends)
        found.figure(f"{name}: largest difference of the loss (of max(1, loss))", f"{off:.1e}")
        found.figure(f"{name}: cosine of the first gradient", f"{similar:.5f}")
        found.figure(f"{name}: norm of the first gradient, of float32's", f"{size:.4f}")
        moved = cosine(exact.moved, rounded.moved)
        found.figure(f"{name}: cosine of what the weights moved by", f"{moved:.4f}")
        found.require(off <= MOST_LOSS_OFF, f"{name}: the loss is off by {off:.2g}")
        found.require(similar >= LEAST_COSINE, f"{name}: the gradient's cosine is {similar:.4f}")
        found.require(0.9 <= size <= 1.1, f"{name}: the gradient is {size:.3g} times float32's")


def _policy_rows(setting: Setting, student: Any) -> LockedDataset:
    """Rows of the student's own logprobs, so that importance ratios are near 1."""
    told: dict[str, Any] = {"dataset": "unused", "student": str(student), "output": "unused"}
    policy = Student.load(WarmupConfig(**told), setting.torch_device, bf16=False)
    rng = np.random.default_rng(1)
    rows, longest = setting.size(8, 4), setting.size(160, 12)
    lengths = [
        [tuple(rng.integers(2, longest, 2).tolist()) for _ in range(rows)]
        for _ in range(setting.size(4, 2))
    ]
    vocab = setting.shape(MIDDLE).vocab
    return write_rows(setting.scratch / "rows", lengths, vocab, policy=policy)


def train(config: Any, dataset: LockedDataset, device: torch.device, bf16: bool) -> Trained:
    """Take every update of a dataset on a device, by the trainers' own functions."""
    student = Student.load(config, device, bf16)
    optimizer = make_optimizer(student.model, config)
    objective = objective_of(config, dataset)
    before, losses, gradient = flat_weights(student), [], torch.empty(0)
    for rows in dataset.updates(columns=list(objective.columns)):
        losses.append(gradient_of(rows, student, objective, config)["loss"])
        if rows.update == 1:
            gradient = flat_gradient(student.model)
        clip_gradients(student.model, config.grad_clip_norm)
        step(optimizer, config.lr)
    return Trained(losses, gradient, flat_weights(student) - before)


def flat_weights(student: Student) -> Tensor:
    """All trained weights, float32 on the CPU, a copy."""
    parameters = student.model.parameters()
    return torch.cat([p.detach().float().cpu().flatten() for p in parameters])


def packed_attention(setting: Setting, found: Recorder) -> None:
    """Compare packed rows with padded ones, for each attention that keeps sequences apart."""
    student = make_model(setting.scratch / "student", setting.shape(MIDDLE))
    dataset = _policy_rows(setting, student)
    rows = next(islice(dataset.updates(), 1))
    told: dict[str, Any] = {"dataset": "unused", "student": str(student), "output": "unused"}
    for attention in ("eager", "sdpa", "flash_attention_2"):
        if attention == "flash_attention_2" and not is_flash_attn_2_available():
            found.skip("flash_attention_2: the package flash-attn is not installed")
            continue
        config = WarmupConfig(**told, attention=attention, max_tokens_per_micro_batch=4096)
        bf16 = setting.device == "cuda"
        model = Student.load(config, setting.torch_device, bf16)
        model.model.eval()
        with torch.no_grad():
            isolates = model.isolates_packed()
        found.figure(f"{attention}: layout that trainers choose", model.layout)
        found.figure(f"{attention}: packed sequences do not see each other", str(isolates))
        if not isolates:
            found.require(model.layout == "padded", f"{attention} is packed, and leaks")
            continue
        gradients = {}
        objective = objective_of(config, dataset)
        for layout in ("padded", "packed"):
            model.layout = layout
            gradient_of(rows, model, objective, config)
            gradients[layout] = flat_gradient(model.model)
        similar = cosine(gradients["padded"], gradients["packed"])
        found.figure(f"{attention}: cosine of packed and padded gradient", f"{similar:.6f}")
        found.require(similar >= LEAST_PACKED_COSINE, f"{attention}: packed cosine {similar:.4f}")
