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
Peak memory is of a process of its own for each arm: its highest resident size (on CUDA: allocated
memory) beyond that before the pass and beyond the weight's gradient, so that neither weights nor
their gradients count. Times are taken in one process, all arms in turn in every round; a ratio is
the median of the rounds' ratios. CPU seconds are of all threads: on a machine that others use they
say more than wall time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
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
    inputs.hidden.grad = inputs.weight.grad = None
    loss = ARMS[arm](inputs)
    loss.backward()  # type: ignore[no-untyped-call]
    found = loss.item() / len(inputs.ids)
    assert inputs.hidden.grad is not None and inputs.weight.grad is not None
    gradient, inputs.weight.grad = inputs.hidden.grad, None
    return found, gradient


def peak_bytes(arm: str, args: argparse.Namespace) -> int:
    """Peak of this process in one pass, beyond what it held before and the weight's gradient."""
    # Libraries load and threads start on the first call.
    small = argparse.Namespace(**{**vars(args), "vocab": 1000, "hidden": 64})
    run(arm, make_inputs(small, 8, arm == "trl"))
    inputs = make_inputs(args, args.tokens, arm == "trl")
    gradient = inputs.weight.numel() * inputs.weight.element_size()
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(arm, inputs)
        return torch.cuda.max_memory_allocated() - before - gradient
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    run(arm, inputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak - before - gradient


def peak_of_process(arm: str) -> int:
    """`peak_bytes` in a process of its own, with this one's arguments."""
    command = [sys.executable, "-m", "benchmarks.fused_loss", *sys.argv[1:], "--peak-of", arm]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peak = int(done.stdout.split()[-1])
    print(f"{arm}: {peak / GIB:.3f} GiB", file=sys.stderr)
    return peak


def times(arms: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every round by arm, the loss, and the gradient's distance from the dense one."""
    for arm in arms:
        run(arm, make_inputs(args, 16, "trl" in arms))
    inputs = make_inputs(args, args.tokens, "trl" in arms)
    found: dict[str, Any] = {arm: {"wall": [], "cpu": []} for arm in arms}
    reference: Tensor | None = None
    for _ in range(args.rounds):
        for arm in arms:
            began, began_cpu = time.perf_counter(), time.process_time()
            # The loss's .item() waits for the device.
            loss, gradient = run(arm, inputs)
            if args.device == "cuda":
                torch.cuda.synchronize()
            found[arm]["wall"].append(time.perf_counter() - began)
            found[arm]["cpu"].append(time.process_time() - began_cpu)
            seconds = {clock: round(found[arm][clock][-1], 1) for clock in ("wall", "cpu")}
            print(arm, seconds, file=sys.stderr)
            reference = gradient if arm == "dense" else reference
            found[arm]["loss"] = loss
            if reference is not None:
                found[arm]["off"] = float((gradient - reference).norm() / reference.norm())
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
    parser.add_argument("--peak-of", choices=tuple(ARMS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak_of:
        print(peak_bytes(args.peak_of, args))
        return
    arms = [arm for arm in ARMS if "trl" not in arm or importlib.util.find_spec("trl")]
    report = {arm: {"peak": peak_of_process(arm)} for arm in arms}
    for arm, figures in times(arms, args).items():
        report[arm].update(figures)
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
