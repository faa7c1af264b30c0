"""What a verifier returned, made storable: bounded, finite, UTF-8, secrets masked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from s2d_store.redact import redact
from s2d_store.verifiers.base import OUTCOMES, Verdict

MAX_EXTRACTED_CHARS = 10_000
MAX_DETAIL_CHARS = 2_000
MAX_JSON_BYTES = 64 << 10
_MAX_DEPTH = 8


def check_verdict(verdict: Verdict) -> Verdict:
    """`verdict` as it is stored, or an `error` verdict that says what is wrong with it.

    Texts are cut at 10,000 and 2,000 characters and their lone surrogates replaced; secrets in the
    detail are masked, since a verifier that calls a service may name its key. A reward beside
    `timeout` or `error` is dropped: nothing was judged.
    """
    problem = _problem(verdict)
    if problem:
        return Verdict(None, "error", detail=problem[:MAX_DETAIL_CHARS])
    try:
        metrics, cost = _json("metrics", verdict.metrics), _json("cost", verdict.cost)
    except ValueError as error:
        return Verdict(None, "error", detail=str(error)[:MAX_DETAIL_CHARS])
    return replace(
        verdict,
        reward=verdict.reward if verdict.judged else None,
        extracted=_storable(verdict.extracted[:MAX_EXTRACTED_CHARS]),
        detail=_storable(redact(verdict.detail[: 4 * MAX_DETAIL_CHARS])[:MAX_DETAIL_CHARS]),
        metrics=metrics,
        cost=cost,
    )


def unjudged(detail: str) -> Verdict:
    """An `error` verdict with a reason, secrets masked."""
    return check_verdict(Verdict(None, "error", detail=detail))


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON has it: scalars of NumPy and torch as numbers, what is not finite as None.

    Raises:
        ValueError: it holds something else, or is nested more than 8 deep.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _storable(str(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_storable(str(key)): plain(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry, depth + 1) for entry in value]
    if callable(getattr(value, "tolist", None)):
        return plain(value.tolist(), depth + 1)
    raise ValueError(f"it holds {type(value).__name__}, which is no JSON value")


def _problem(verdict: Any) -> str:
    if not isinstance(verdict, Verdict):
        return f"the verifier returned {type(verdict).__name__}, not a Verdict"
    if verdict.outcome not in OUTCOMES:
        return f"the verifier returned the unknown outcome {verdict.outcome!r}"
    if verdict.outcome == "reported":
        return "the verifier returned the outcome 'reported', which is for imported rewards"
    if not isinstance(verdict.extracted, str) or not isinstance(verdict.detail, str):
        return "the verifier returned an `extracted` or `detail` that is not text"
    if verdict.judged and not _is_float64(verdict.reward):
        return f"the verifier returned the reward {verdict.reward!r:.200}, no finite float64"
    return ""


def _is_float64(reward: Any) -> bool:
    if not isinstance(reward, int | float):
        return False
    try:
        return math.isfinite(reward) and float(reward) == reward
    except OverflowError:
        return False


def _json(name: str, value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f"the verifier returned {name} that are {type(value).__name__}")
    try:
        found: dict[str, Any] = plain(value)
    except ValueError as error:
        raise ValueError(f"the verifier returned {name} that cannot be stored: {error}") from None
    size = len(json.dumps(found, ensure_ascii=False).encode())
    if size > MAX_JSON_BYTES:
        raise ValueError(f"the verifier returned {name} of {size:,} bytes, over {MAX_JSON_BYTES:,}")
    return found


def _storable(text: str) -> str:
    """`text` without lone surrogates, which are in no UTF-8: neither in Parquet nor in Delta."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
