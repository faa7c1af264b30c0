"""What a driver tells whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
    """

    total: int
    done: int = 0
    committed: int = 0
    tokens: int = 0
    graded: int = 0
    reward: float = 0.0


OnProgress = Callable[[Progress], None]
OnNotice = Callable[[str], None]
"""Told a sentence that whoever started the command should read before the work begins."""


def ignore(_: Progress) -> None:
    """Show nothing."""


def say_nothing(_: str) -> None:
    """Say nothing."""
