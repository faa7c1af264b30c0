"""A platform plug-in that lets verl train on the CPU, for trying out where there is no GPU.

VERL_USE_EXTERNAL_MODULES=cpu_platform VERL_PLATFORM=cpu
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

# verl registers its FSDP engine for CUDA; nothing in it needs a GPU.
os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


class _CpuModule(ModuleType):
    """`torch.cpu`, and the memory figures that verl asks of a device: none is kept."""

    def __getattr__(self, name: str) -> Any:
        if name == "get_device_name":
            return lambda *_: "CPU"
        if name == "mem_get_info":
            return lambda *_: (0, 0)
        if name.startswith(("max_memory", "memory_", "empty_cache", "reset_peak")):
            return lambda *_: 0
        return getattr(torch.cpu, name)


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """The CPU as a device of which there is one."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _CpuModule("torch_cpu")

    def is_available(self) -> bool:
        """It always is."""
        return True

    def current_device(self) -> Any:
        """What tensors are moved to."""
        return "cpu"

    def device_count(self) -> int:
        """One."""
        return 1

    def set_device(self, device_index: int) -> None:
        """There is nothing to choose."""

    def synchronize(self, device_index: int | None = None) -> None:
        """There is nothing to wait for."""

    def manual_seed(self, seed: int) -> None:
        """Seed the generator."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed the generator."""
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """The allocator has none."""

    def empty_cache(self) -> None:
        """There is no cache."""

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        """Unknown."""
        return None, None

    def communication_backend_name(self) -> str:
        """Collectives of torch on the CPU."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """As verl names it."""
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        """Mark nothing."""
        yield

    def profiler_start(self) -> None:
        """Profile nothing."""

    def profiler_stop(self) -> None:
        """Profile nothing."""

    def ray_resource_name(self) -> str:
        """Ray's name of it."""
        return "CPU"

    def ray_noset_envvars(self) -> list[str]:
        """None."""
        return []

    def is_ipc_supported(self) -> bool:
        """Not between devices."""
        return False

    def cudart(self) -> Any:
        """There is none."""
        return None
