"""The settings of `s2d eval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.verifiers.answer_place import AnswerFrom


@dataclass(frozen=True)
class EvalConfig:
    """One eval command."""

    policies: tuple[str, ...]
    """Registered names or ids, local folders, or hub ids; the report keeps their order. Or methods:
    names of registered policies with {seed} where the training seed's number stands."""
    settings: GenerateConfig
    """How rollouts are sampled and graded; policy, role, purpose, run and round are filled in."""
    role: Literal["", "teacher", "student"] = ""
    """teacher or student; default: as a policy's first rollouts, or student."""
    k: tuple[int, ...] = ()
    """Tries of pass@k. May be repeated; default: n."""
    baseline: str = ""
    """The policy or method to compare the others with; default: every pair."""
    answer_from: AnswerFrom = "auto"
    """Where math-verify looks for the answer; auto: the first place that holds one."""
    allow_trained: bool = False
    """Evaluate on prompts trained on, too."""
    seeds: str = ""
    """Training seeds of methods, as 0-7 or 0,2,5; default: those that have a policy."""
    margin: float = 0.0
    """Differences of avg@n up to it do not matter: tests equivalence. 0 tests nothing."""
