"""What a driver tells whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2d_store.policies.registry import Registered
    from s2d_store.rollouts.settings import EngineChoice


@dataclass
class Progress:
    """Counts so far in this process; the caller's display derives rates from them.

    Attributes:
        total: rows to do in this process.
        done: rows finished, committed or waiting for their chunk.
        committed: rows on disk.
        tokens: response tokens of the finished rows.
        graded: rows that a verifier judged; timeouts and errors are none.
        reward: sum of their rewards.
        cut_off: finished rows that ended at the most tokens.
        doing: what is going on before rows are, such as loading a model; empty once they are.
    """

    total: int
    done: int = 0
    committed: int = 0
    tokens: int = 0
    graded: int = 0
    reward: float = 0.0
    cut_off: int = 0
    doing: str = ""


OnProgress = Callable[[Progress], None]
OnNotice = Callable[[str], None]
"""Told a sentence that whoever started the command should read before the work begins."""


def loading(policy: Registered, config: EngineChoice) -> str:
    """What a command says while an engine loads a model, which can take minutes."""
    size = f"{policy.n_parameters:,} parameters, " if policy.n_parameters else ""
    where = config.url or f"{config.device} device, {config.dtype} dtype"
    return f"loading {policy.name} ({size}{config.engine} engine, {where})"


def ignore(_: Progress) -> None:
    """Show nothing."""


def say_nothing(_: str) -> None:
    """Say nothing."""
