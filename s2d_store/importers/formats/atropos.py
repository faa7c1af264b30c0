"""Atropos: groups as JSONL, one line per group.

A mask is -100 at tokens that were not sampled and the token's id elsewhere; a logprob there is 1.0.
Both look like values, so masks are held against the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reward
from s2d_store.importers.registry import Head, Importer
from s2d_store.messages import text_of

_NOT_SAMPLED = -100
_HELD = {"tokens", "masks", "scores", "inference_logprobs", "messages", "advantages"}


def _make(line: Line) -> Iterator[Read]:
    group = line.value
    n = len(group["tokens"])
    lists = {name: group[name] for name in _HELD if group.get(name)}
    for name, value in lists.items():
        if len(value) != n:
            raise InputError(f"{name} has {len(value)} entries for {n} sequences")
    rest = {name: value for name, value in group.items() if name not in _HELD}
    for part in range(n):
        own = {name: value[part] for name, value in lists.items()}
        yield _record(line, part, own, n, None if part else rest)


def _record(line: Line, part: int, own: dict[str, Any], n: int, rest: Any) -> Record:
    tokens, masks = own["tokens"], own["masks"]
    flags = [mask != _NOT_SAMPLED for mask in masks]
    if len(masks) != len(tokens) or True not in flags:
        raise InputError(f"sequence {part} has no mask of what was sampled")
    if any(flag and mask != token for token, mask, flag in zip(tokens, masks, flags, strict=True)):
        raise InputError(f"the mask of sequence {part} names other tokens than the sequence")
    start = flags.index(True)
    mask = flags[start:]
    logprobs: Sequence[float | None] | None = own.get("inference_logprobs")
    if logprobs is not None:
        if len(logprobs) != len(tokens):
            raise InputError(f"sequence {part} has {len(logprobs)} logprobs")
        pairs = zip(logprobs[start:], mask, strict=True)
        logprobs = [value if flag else None for value, flag in pairs]
    said = own.get("messages") or None
    first = next((i for i, m in enumerate(said or ()) if m["role"] == "assistant"), 0)
    return Record(
        file=line.file,
        line=line.number,
        content=line.content,
        part=part,
        size=line.size // n,
        group=line.content,
        index=part,
        asked=Asked(messages=said[:first] if said and first else None),
        prompt_token_ids=tokens[:start],
        response_token_ids=tokens[start:],
        response_mask=None if all(mask) else mask,
        logprobs=logprobs,
        messages=said,
        text=text_of(said[-1]) if said and said[-1]["role"] == "assistant" else None,
        rewards=[Reward("score", own["scores"], metrics=_advantage(own))],
        rest=rest,
    )


def _advantage(own: dict[str, Any]) -> dict[str, Any] | None:
    return {"advantage": own["advantages"]} if "advantages" in own else None


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, _make)


def _claims(head: Head) -> bool:
    return head.kind == ".jsonl" and head.keys >= {"tokens", "masks", "scores"}


IMPORTER = Importer(
    "atropos",
    "1",
    "groups of environments",
    _claims,
    _read,
    {
        "prompt": "messages before the assistant's first, else the tokens before the mask",
        "prompt_token_ids, response_token_ids, response_mask": "tokens and masks",
        "sampler_logprobs": "inference_logprobs where the mask names the token",
        "group_id": "the line; index: the place in it",
        "rewards": "scores; advantages among the metrics",
    },
    (
        "distill_token_ids and distill_logprobs: whether a row is of its own token or the next is "
        "not said; kept in column source",
        "policy, sampling settings and finish reasons: not in the file",
    ),
)
