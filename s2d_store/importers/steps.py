"""Calls that each repeat the whole context, as one sequence: prompt, response and mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Step:
    """One call of a model: the ids that it was given, those that it sampled, their logprobs."""

    prompt_ids: Sequence[int]
    sampled_ids: Sequence[int]
    logprobs: Sequence[float | None] | None = None


def grown(calls: Iterable[Step | None]) -> dict[str, Any]:
    """The token fields of a Record, empty where the calls do not make one sequence.

    What stands between two calls (a tool's output, the template around it) is masked. Calls make
    one sequence where each is given all that came before it, and none lacks its ids.

    Args:
        calls: in order; None for one without ids.
    """
    found = list(calls)
    whole = [call for call in found if call is not None]
    if not whole or len(whole) < len(found):
        return {}
    prompt, tokens = list(whole[0].prompt_ids), list(whole[0].prompt_ids)
    response: list[int] = []
    mask: list[bool] = []
    logprobs: list[float | None] = []
    for call in whole:
        given = list(call.prompt_ids)
        if given[: len(tokens)] != tokens:
            return {}
        between = given[len(tokens) :]
        sampled = list(call.sampled_ids)
        values = [None] * len(sampled) if call.logprobs is None else list(call.logprobs)
        response += between + sampled
        mask += [False] * len(between) + [True] * len(sampled)
        logprobs += [None] * len(between) + values
        tokens = given + sampled
    return {
        "prompt_token_ids": prompt,
        "response_token_ids": response,
        "response_mask": None if all(mask) else mask,
        "logprobs": None if all(value is None for value in logprobs) else logprobs,
    }
