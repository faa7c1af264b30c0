"""The settings of `s2d eval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s2d_store.rollouts.generate_config import GenerateConfig


@dataclass(frozen=True)
class EvalConfig:
    """One eval command."""

    policies: tuple[str, ...]
    """Registered names or ids, local folders, or hub ids; the report keeps their order."""
    settings: GenerateConfig
    """How rollouts are sampled and graded; policy, role, purpose, run and round are filled in."""
    role: Literal["", "teacher", "student"] = ""
    """teacher or student; default: as a policy's first rollouts, or student."""
    k: tuple[int, ...] = ()
    """Tries of pass@k. May be repeated; default: n."""
    baseline: str = ""
    """The policy to compare the others with; default: every pair."""
    allow_trained: bool = False
    """Evaluate on prompts trained on, too."""
    resamples: int = 2000
    """Bootstrap resamples behind each interval."""
    resample_seed: int = 0
    """Seed of the resamples behind the intervals."""
