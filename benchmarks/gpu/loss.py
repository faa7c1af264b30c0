"""The fused loss at a full vocabulary, against dense logits, TRL's losses and the floor."""

from __future__ import annotations

import argparse
import importlib.util
import statistics

import torch

from benchmarks import fused_loss
from benchmarks.gpu.findings import Recorder
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.training import seconds

MIB = 1 << 20


def fused_against_dense(setting: Setting, found: Recorder) -> None:
    """Forward KL on a teacher's top 64, forward and backward, at two sizes of head."""
    arms = [arm for arm in fused_loss.ARMS if "trl" not in arm or importlib.util.find_spec("trl")]
    if "trl" not in arms:
        found.skip("TRL's losses: the package trl is not installed")
    sizes = [(2048, 1024), (2048, 8192), (4096, 8192)]
    for hidden, tokens in [(32, 24)] if setting.small else sizes:
        args = argparse.Namespace(
            device=setting.device,
            tokens=tokens,
            vocab=setting.size(151_936, 997),
            hidden=hidden,
            k=setting.size(64, 8),
            rounds=setting.size(5, 1),
        )
        figures = fused_loss.measure(arms, args)
        floor = products_floor(setting, args.tokens, args.vocab, hidden)
        name = f"{tokens:,} tokens, V {args.vocab:,}, H {hidden:,}"
        dense = statistics.median(figures["dense"]["wall"])
        for arm, row in figures.items():
            wall = statistics.median(row["wall"])
            of_dense = fused_loss.ratio(row["wall"], figures["dense"]["wall"])
            found.figure(
                f"{name}: {arm}",
                f"{1e3 * wall:.1f} ms ({of_dense:.2f} of dense), {row['peak'] / MIB:,.0f} MiB, "
                f"gradient off by {row['off']:.1e}",
            )
        ours = statistics.median(figures["s2d"]["wall"])
        found.figure(
            f"{name}: three matrix products alone, the floor",
            f"{1e3 * floor:.1f} ms: {floor / ours:.2f} of s2d, {floor / dense:.2f} of dense",
        )
        found.require(figures["s2d"]["off"] <= 0.02, f"{name}: the fused gradient is off")


def products_floor(setting: Setting, tokens: int, vocab: int, hidden: int) -> float:
    """Median seconds of the head's three products: logits, gradient of states, of the weight."""
    device = setting.torch_device
    dtype = torch.bfloat16 if setting.device == "cuda" else torch.float32
    hidden_NH = torch.randn(tokens, hidden, device=device, dtype=dtype)
    weight_VH = torch.randn(vocab, hidden, device=device, dtype=dtype)
    logits_NV = torch.empty(tokens, vocab, device=device, dtype=dtype)

    def products() -> None:
        torch.mm(hidden_NH, weight_VH.T, out=logits_NV)
        torch.mm(logits_NV, weight_VH)
        torch.mm(logits_NV.T, hidden_NH)

    products()
    return statistics.median(seconds(products, device) for _ in range(setting.size(5, 1)))
