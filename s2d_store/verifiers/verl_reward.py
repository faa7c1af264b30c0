"""s2d's verifier of mathematics as verl's reward function.

    reward.custom_reward_function.path=pkg://s2d_store.verifiers.verl_reward
    reward.custom_reward_function.name=compute_score

Rows that `s2d dataset export --format verl-rl` wrote are graded as `s2d verify` grades rollouts.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from s2d_store.verifiers.math import MathVerifier


@cache
def _verifier() -> MathVerifier:
    return MathVerifier()


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
) -> dict[str, float]:
    """The reward of a response, as verl calls it.

    Returns:
        score: 1.0 for a right answer, else 0.0; judged: 0.0 where nothing could be judged, as with
        a gold answer that cannot be read.
    """
    verdict = _verifier().verify(solution_str, ground_truth)
    return {"score": verdict.reward or 0.0, "judged": float(verdict.judged)}
