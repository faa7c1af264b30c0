"""The paper's half split on stored facts: teacher RL on 1H, a bridge on 1H, Stage 3 on 2H."""

from __future__ import annotations

from collections.abc import Sequence

from s2d_store.store import Store
from tests.support.dataset_rows import (
    Made,
    add_policies,
    add_prompts,
    add_rollouts,
    built,
    trained,
)
from tests.support.synthetic import policy

FIRST, SECOND = range(16), range(16, 32)
GRPO = {"prompts_per_update": 8, "keep_equal": True}


def groups(prompts: Sequence[int], n: int = 4, tokens: int = 6) -> list[Made]:
    """n graded rollouts of each prompt; every third group is all wrong."""
    return [
        Made(p, s, tokens=tokens + s, reward=float(s % 2 and p % 3 > 0))
        for p in prompts
        for s in range(n)
    ]


def fill(store: Store, **grpo: object) -> None:
    """Dataset `stage3` of `bridge` on 2H, after `teacher-rl` and `bridge` on 1H.

    `sampled` holds rollouts of the bridge on 1H, graded, for its replay, and on 2H, scored, for
    fresh OPD.
    """
    add_prompts(store, 40)
    add_policies(store, *(policy(name) for name in ("teacher", "student")))
    add_rollouts(store, "gen-rl", "teacher", groups(FIRST), role="teacher")
    built(store, "rl", "grpo", policy="teacher", **GRPO)
    trained(store, "train-rl", "rl", "teacher", "teacher-rl")
    shown = [Made(p, s, tokens=5 + p % 7) for p in FIRST for s in range(6)]
    add_rollouts(store, "gen-w", "teacher-rl", shown, role="teacher", scorer="teacher-rl")
    built(store, "warmup", "warmup", teacher="teacher-rl", correct_only=False)
    trained(store, "train-w", "warmup", "student", "warmed")
    add_rollouts(store, "gen-o", "warmed", shown, scorer="teacher-rl", support="policy")
    built(store, "opd", "opd", student="warmed", teacher="teacher-rl")
    trained(store, "train-o", "opd", "warmed", "bridge")
    add_rollouts(store, "gen-3", "bridge", groups(SECOND))
    built(store, "stage3", "grpo", policy="bridge", runs="gen-3", **{**GRPO, **grpo})
    add_rollouts(store, "gen-again", "bridge", groups(FIRST))
    add_rollouts(
        store, "gen-fresh", "bridge", groups(SECOND), scorer="teacher-rl", support="policy",
        verifier="unused",
    )  # fmt: skip
