"""The fused losses under FSDP2: two processes, each with half of every parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn

from trainers.fused import fused_sums
from trainers.losses.support import Support

pytestmark = pytest.mark.slow

RANKS, N, V, H, K = 2, 6, 23, 8, 4


class Model(nn.Module):
    """An embedding, a layer, and a head, tied or not; its forward pass ends in the loss."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(V, H), nn.Linear(H, H)
        self.head = nn.Linear(H, V, bias=not tied)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, ids: Tensor) -> Tensor:
        def sums(support: Support, _: slice) -> dict[str, Tensor]:
            return {"loss": support.logits_NK.sigmoid().sum() + support.rest_N.square().sum()}

        hidden = self.layer(self.embedding(tokens)).tanh()
        weight, bias = self.head.weight, self.head.bias
        return fused_sums(hidden, weight, ids, sums, bias, chunk_tokens=4, block_tokens=3)["loss"]


def batch(rank: int) -> tuple[Tensor, Tensor]:
    """Tokens and supports of a rank."""
    generator = torch.Generator().manual_seed(rank)
    order = torch.rand(N, V, generator=generator).argsort(dim=1)
    return order[:, -1], order[:, :K]


def gradients(tied: bool, policy: dict[str, Any] | None, rank: int) -> dict[str, Tensor]:
    """Mean over the ranks' losses: of one whole model, or of a rank's sharded one, gathered."""
    torch.manual_seed(7)
    model = Model(tied)
    if policy is None:
        losses = [model(*batch(other)) for other in range(RANKS)]
        (sum(losses) / RANKS).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    mesh = init_device_mesh("cpu", (RANKS,))
    fully_shard(model.layer, mesh=mesh, mp_policy=MixedPrecisionPolicy(**policy))
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(**policy))
    # Twice: the gradients of two micro-batches add up.
    for _ in range(2):
        (model(*batch(rank)) / 2).backward()
    return {n: cast(DTensor, p.grad).full_tensor() for n, p in model.named_parameters()}


def check(rank: int, folder: str) -> None:
    """Run as one of the two processes."""
    store = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=RANKS)
    try:
        for tied in (False, True):
            whole = gradients(tied, None, rank)
            sharded = gradients(tied, {}, rank)
            assert set(sharded) == set(whole) and len(whole) == (3 if tied else 5)
            for name, gradient in whole.items():
                torch.testing.assert_close(sharded[name], gradient)
            halves = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
            for name, gradient in gradients(tied, halves, rank).items():
                torch.testing.assert_close(gradient, whole[name], atol=0.3, rtol=0.1)
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch without torch.distributed")
def test_gradients_of_a_sharded_head_are_those_of_a_whole_one(tmp_path: Path) -> None:
    spawn(check, args=(str(tmp_path),), nprocs=RANKS)
