"""FSDP2: weights, gradients and optimizer state in shards, one on each process.

Each decoder layer is a group of its own, gathered for its forward and its backward pass. What is
outside the layers (embeddings, norm, head) is the root's group, gathered for all of a micro-batch's
objective: the chunked head reads the head's weight outside of any module's forward.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from s2d_store.errors import TrainingError

# What `accelerate launch` was told about FSDP and cannot be had here, with what to do instead.
_REFUSED = {
    "FSDP_OFFLOAD_PARAMS": "leave out --fsdp_offload_params; more processes need less memory each",
    "FSDP_ACTIVATION_CHECKPOINTING": "s2d's own --gradient-checkpointing instead",
}


def fsdp_requested() -> bool:
    """Whether `accelerate launch --use_fsdp`, or a config file of it, started this process.

    Raises:
        TrainingError: FSDP of version 1, or a setting of it that trainers do not have.
    """
    if not _env_flag("ACCELERATE_USE_FSDP"):
        return False
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise TrainingError(
            f"launched with FSDP version {version}",
            "trainers shard with FSDP2",
            "accelerate launch --use_fsdp --fsdp_version 2 ...",
        )
    for name, fix in _REFUSED.items():
        if _env_flag(name):
            raise TrainingError(f"launched with {name.lower()}", "trainers do not have it", fix)
    return True


def _env_flag(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")


class Root(torch.nn.Module):
    """Calls a function while the root's group is gathered, and again for its backward pass."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], Any]) -> Any:
        """Call it."""
        return function()


def shard(model: Any, device: torch.device, bf16: bool) -> Root:
    """Shard a model over all processes, in place, moving each group to the device on the way.

    Gradients are summed over processes, never averaged: the loss is divided by a count of the whole
    update. With bf16, layers are gathered and computed in bfloat16, and gradients summed in
    float32; the shards stay in float32.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    policy = MixedPrecisionPolicy()
    if bf16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    layer_classes = set(model._no_split_modules or ())
    for module in list(model.modules()):
        if type(module).__name__ in layer_classes:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    # Its backward pass comes right after its forward pass: nothing to free in between.
    root = Root(model)
    fully_shard(root, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # As a sum and a division by 1: gloo has no scaled sum.
            module.set_force_sum_reduction_for_comms(True)
    return root


def free(root: Root) -> None:
    """Give back the gathered weights of the root's group: where no backward pass follows."""
    assert isinstance(root, FSDPModule), "it became one when it was sharded"
    root.reshard()


def gather(tensors: Iterable[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    """Whole tensors by name, in one process; all processes must call with the same names.

    Args:
        tensors: shards, or whole tensors, which stay where they are.
        keep: whether this process wants them; the others get nothing.
    """
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors:
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            whole[name] = full if full is tensor else full.cpu()
    return whole


def place_like(whole: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor as another one lies: on its device, and this process's shard if it is one."""
    moved = whole.to(tensor.device)
    if not isinstance(tensor, DTensor):
        return moved
    # Every process has the whole, so none needs to send.
    return distribute_tensor(moved, tensor.device_mesh, tensor.placements, src_data_rank=None)
