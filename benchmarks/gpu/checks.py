"""The checks of `make gpu`, each with its time limit; together they stay below ten minutes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        function: `module:name` of what takes a `Setting` and a `Recorder`; imported in the check's
            own process, since it needs torch.
        limit_s: wall seconds after which it is ended and counts as failed.
    """

    function: str
    limit_s: float

    @property
    def name(self) -> str:
        """What it is called by."""
        return self.function.partition(":")[2]

    @property
    def module(self) -> str:
        """The module that it is in."""
        return self.function.partition(":")[0]

    def load(self) -> Callable[[Any, Any], None]:
        """Import the function."""
        function: Callable[[Any, Any], None] = getattr(import_module(self.module), self.name)
        return function


# Not a check: what the device and the packages are.
FACTS = Check("benchmarks.gpu.processes:facts", 120)

CHECKS = (
    Check("benchmarks.gpu.agreement:trainers_in_bf16", 120),
    Check("benchmarks.gpu.agreement:packed_attention", 40),
    Check("benchmarks.gpu.loss:fused_against_dense", 90),
    Check("benchmarks.gpu.reading:pinned_reading", 60),
    Check("benchmarks.gpu.continuing:resume", 60),
    Check("benchmarks.gpu.continuing:fsdp2_with_one_process", 50),
    Check("benchmarks.gpu.speed:trainers_on_1k_rows", 85),
    Check("benchmarks.gpu.speed:trainers_on_8k_rows", 85),
)
