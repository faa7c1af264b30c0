"""Time and memory of the fused loss against dense logits, and against the losses that TRL ships.

    python -m benchmarks.fused_loss
    pip install --target /somewhere --no-deps trl==1.16.0
    PYTHONPATH=/somewhere python -m benchmarks.fused_loss      # TRL's arms too

One arm is a forward and backward pass from hidden states to the gradients of hidden states and of
the head's weight, for the forward KL on a teacher's top k with the tail as one outcome:
    dense       log_softmax of dense logits, gather, log(1 - sum) for the tail: (a) of the ratios
    s2d         `trainers.fused`
    trl-topk    TRL's loss on a teacher server's top k, `ServerDistillationTrainer`: the same loss
    trl         TRL's `DistillationTrainer`: the KL over the whole vocabulary, of a teacher whose
                hidden states and head are at hand, so it projects twice; another loss, and the
                one that TRL documents first
All arms run in turn in every round, in one process. Peak memory is the highest resident size of an
arm's first pass (on CUDA: allocated memory) beyond what the process holds before any of them and
beyond the weight's gradient: neither weights nor their gradients count, and what an arm keeps
counts against the next. A ratio of times is the median of the rounds' ratios. CPU seconds are
of all threads: on a machine that others use they say more than wall time.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from trainers.fused import fused_sums
from trainers.losses.forward_kl import forward_kl
from trainers.losses.support import Support

GIB = 1 << 30
_LIBC = ctypes.CDLL("libc.so.6")


@dataclass(frozen=True)
class Inputs:
    """What the arms read.

    Attributes:
        hidden: [N, H], requires a gradient, as `weight` does.
        weight: [V, H].
        ids: int64 [N, K], distinct in a row.
        logprobs: float32 [N, K], the teacher's, of mass below 1.
        teacher_hidden: [N, H].
        teacher_weight: [V, H]; [0, H] where no arm needs it.
    """

    hidden: Tensor
    weight: Tensor
    ids: Tensor
    logprobs: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor


def make_inputs(args: argparse.Namespace, tokens: int, with_teacher: bool) -> Inputs:
    """Random inputs, logits of standard deviation about 1."""
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    to = {"device": args.device, "dtype": dtype}

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, args.hidden, generator=generator)

    starts = torch.randint(args.vocab, (tokens, 1), generator=generator)
    step = args.vocab // args.k
    outcomes = 2.0 * torch.randn(tokens, args.k + 1, generator=generator)
    return Inputs(
        hidden=normal(tokens).to(**to).requires_grad_(),
        weight=normal(args.vocab).mul_(args.hidden**-0.5).to(**to).requires_grad_(),
        ids=((starts + step * torch.arange(args.k)) % args.vocab).to(args.device),
        logprobs=outcomes.log_softmax(dim=1)[:, :-1].to(args.device),
        teacher_hidden=normal(tokens).to(**to),
        teacher_weight=normal(args.vocab if with_teacher else 0).mul_(args.hidden**-0.5).to(**to),
    )


def dense(inputs: Inputs) -> Tensor:
    """The loss as one writes it down, logits whole."""
    logits = torch.nn.functional.linear(inputs.hidden, inputs.weight).float()
    student = logits.log_softmax(dim=1)
    del logits
    inside = student.gather(1, inputs.ids)
    rest, teacher_rest = (
        torch.log1p(-logprobs.exp().sum(dim=1).clamp_max(1 - 1e-6))
        for logprobs in (inside, inputs.logprobs)
    )
    loss = (inputs.logprobs.exp() * (inputs.logprobs - inside)).sum()
    return loss + (teacher_rest.exp() * (teacher_rest - rest)).sum()


def s2d(inputs: Inputs) -> Tensor:
    """Ours, with the entropy and the masses that a trainer reports."""

    def sums(support: Support, rows: slice) -> dict[str, Tensor]:
        return vars(forward_kl(support, inputs.ids[rows], inputs.logprobs[rows])).copy()

    return fused_sums(inputs.hidden, inputs.weight, inputs.ids, sums)["loss"]


def trl_topk(inputs: Inputs) -> Tensor:
    """The server trainer's methods on dense log-probabilities, as its `compute_loss` calls them."""
    from trl.experimental.server_distillation.server_distillation_trainer import (
        ServerDistillationTrainer,
    )

    trainer: Any = SimpleNamespace(
        loss_add_tail=True,
        _reduce_divergence_loss=ServerDistillationTrainer._reduce_divergence_loss,
    )
    logits = torch.nn.functional.linear(inputs.hidden, inputs.weight)[None]
    found: Tensor = ServerDistillationTrainer._compute_server_forward_kl_loss(
        trainer,
        {"topk_logprobs": inputs.logprobs[None], "topk_token_ids": inputs.ids[None]},
        torch.nn.functional.log_softmax(logits / 1.0, dim=-1),
        torch.zeros(1, len(inputs.ids), dtype=torch.int64, device=inputs.ids.device),
    )
    return found * len(inputs.ids)


def trl(inputs: Inputs) -> Tensor:
    """The chunked divergence of `DistillationTrainer`, forward KL."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    loss: Tensor = _chunked_divergence_loss(
        inputs.hidden[None],
        inputs.teacher_hidden[None],
        inputs.weight,
        inputs.teacher_weight,
        torch.ones(1, len(inputs.ids), device=inputs.ids.device),
        beta=0.0,
        num_items_in_batch=1,
    )[0]
    return loss


ARMS: dict[str, Callable[[Inputs], Tensor]] = {
    "dense": dense,
    "s2d": s2d,
    "trl-topk": trl_topk,
    "trl": trl,
}


def run(arm: str, inputs: Inputs) -> tuple[float, Tensor]:
    """One pass; the loss a token and the gradient of the hidden states."""
    loss = ARMS[arm](inputs)
    loss.backward()
    if loss.is_cuda:
        torch.cuda.synchronize()
    found = loss.item() / len(inputs.ids)
    assert inputs.hidden.grad is not None and inputs.weight.grad is not None
    gradient = inputs.hidden.grad
    inputs.hidden.grad = inputs.weight.grad = None
    return found, gradient


class Peak:
    """The highest memory of this process in one pass, beyond what it holds now."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._before = torch.cuda.memory_allocated() if self._cuda else _status_bytes("VmRSS")

    def start(self) -> None:
        """Begin a pass."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            # Sets VmHWM back to VmRSS; see proc(5).
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        """Since `start`."""
        peak = torch.cuda.max_memory_allocated() if self._cuda else _status_bytes("VmHWM")
        return peak - self._before


def trim() -> None:
    """Freed pages go back, so that an arm is not charged for what another no longer uses."""
    _LIBC.malloc_trim(0)


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def measure(arms: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """By arm: peak, seconds of every round, loss, distance of the gradient from the dense one."""
    # Libraries load and threads start on a first call.
    small = argparse.Namespace(**{**vars(args), "vocab": 1000, "hidden": 64})
    for arm in arms:
        run(arm, make_inputs(small, 8, "trl" in arms))
    inputs = make_inputs(args, args.tokens, "trl" in arms)
    gradient_bytes = inputs.weight.numel() * inputs.weight.element_size()
    reference = torch.ones_like(inputs.hidden).detach()
    found: dict[str, Any] = {arm: {"wall": [], "cpu": []} for arm in arms}
    peak = Peak(args.device)
    for number in range(args.rounds):
        for arm, row in found.items():
            trim()
            peak.start()
            began, began_cpu = time.perf_counter(), time.process_time()
            row["loss"], gradient = run(arm, inputs)
            row["wall"].append(time.perf_counter() - began)
            row["cpu"].append(time.process_time() - began_cpu)
            if number == 0:
                row["peak"] = peak.bytes() - gradient_bytes
                if arm == "dense":
                    reference.copy_(gradient)
                row["off"] = float((gradient - reference).norm() / reference.norm())
            clocks = f"{row['wall'][-1]:.1f} s, CPU {row['cpu'][-1]:.1f} s"
            print(f"{arm}: {row['peak'] / GIB:.3f} GiB, {clocks}", file=sys.stderr)
            del gradient
    return found


def ratio(of: list[float], over: list[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(of, over, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: bf16")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    arms = [arm for arm in ARMS if "trl" not in arm or importlib.util.find_spec("trl")]
    report = measure(arms, args)
    base = report["dense"]
    print(f"{args.tokens:,} tokens, V {args.vocab:,}, H {args.hidden:,}, k {args.k}, {args.device}")
    names = f"{'peak GiB':>9}{'/ dense':>9}{'wall s':>8}{'/ dense':>9}{'CPU s':>8}{'/ dense':>9}"
    print(f"{'':<10}{names}{'loss':>10}{'gradient off':>14}")
    for arm, row in report.items():
        print(
            f"{arm:<10}{row['peak'] / GIB:>9.2f}{row['peak'] / base['peak']:>9.3f}"
            f"{statistics.median(row['wall']):>8.1f}{ratio(row['wall'], base['wall']):>9.2f}"
            f"{statistics.median(row['cpu']):>8.1f}{ratio(row['cpu'], base['cpu']):>9.2f}"
            f"{row['loss']:>10.4f}{row['off']:>14.1e}"
        )
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
