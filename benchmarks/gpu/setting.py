"""Where and how large the checks are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen3."""

    hidden: int
    layers: int
    heads: int
    vocab: int
    head_dim: int = 64


TINY = Shape(hidden=32, layers=2, heads=2, vocab=103, head_dim=16)
# Large enough for bf16's rounding to add up over layers, small enough for a CPU in float32.
MIDDLE = Shape(hidden=512, layers=8, heads=8, vocab=32_768)
# Qwen3-0.6B's: 596 M parameters, a vocabulary of 151,936.
REAL = Shape(hidden=1024, layers=28, heads=16, vocab=151_936, head_dim=128)


@dataclass(frozen=True)
class Setting:
    """Where and how large the checks are.

    Attributes:
        device: `cuda` or `cpu`.
        small: tiny sizes, to test the checks themselves.
        scratch: a folder of the check's own.
        model: folder of a model for the check of speed; empty takes random weights of `REAL`.
    """

    device: str
    small: bool
    scratch: Path
    model: str = ""

    @property
    def torch_device(self) -> torch.device:
        """The device, with its index where it has one."""
        import torch  # not needed to start a check's process

        return torch.device("cuda", 0) if self.device == "cuda" else torch.device("cpu")

    def shape(self, large: Shape) -> Shape:
        """A shape, or the tiny one."""
        return TINY if self.small else large

    def size(self, large: int, small: int) -> int:
        """A count, by the setting's size."""
        return small if self.small else large
