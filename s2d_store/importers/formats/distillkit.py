"""DistillKit captures: sequences with a teacher's top-k, row t of the distribution of token t + 1.

The raw form alone is read: compressed ones need DistillKit's codec and are lossy, older ones are no
logprobs. A sequence is a rollout of which the policy sampled nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s2d_store.errors import InputError
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reject, TopEntries
from s2d_store.importers.registry import Head, Importer

_PACKED = ("compressed_logprobs", "packed_indices", "bytepacked_indices")


def _make(line: Line) -> Iterator[Read]:
    row = line.value
    if any(name in row for name in _PACKED):
        yield Reject(line.file, line.number, "compressed logits: only the raw form is read")
        return
    first, *given = row["input_ids"]
    ids, values = row["token_ids"], row["top_values"]
    if not len(ids) == len(values) == len(given):
        raise InputError(f"{len(ids)} rows of top-k for {len(given) + 1} tokens")
    sizes = {len(entries) for entries in ids} | {len(entries) for entries in values}
    if len(sizes) != 1:
        raise InputError("top-k rows of different lengths")
    ranked = [
        sorted(zip(*pair, strict=True), key=lambda entry: -entry[1])
        for pair in zip(ids, values, strict=True)
    ]
    own = [dict(entries).get(token) for token, entries in zip(given, ranked, strict=True)]
    known = [value for value in own if value is not None]
    if len(known) < len(own):
        yield Reject(
            line.file,
            line.number,
            "a token outside its own top-k: its logprob is not in the file",
            f"{len(own) - len(known)} of {len(own)} tokens",
        )
        return
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=line.content,
        asked=Asked(),
        prompt_token_ids=[first],
        response_token_ids=given,
        response_mask=[False] * len(given),
        logprobs=known,
        top=TopEntries(
            support="own",
            k=sizes.pop(),
            token_ids=[token for entries in ranked for token, _ in entries],
            logprobs=[value for entries in ranked for _, value in entries],
            sampled=known,
        ),
        rest={n: v for n, v in row.items() if n not in ("input_ids", "token_ids", "top_values")},
    )


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, _make)


def _claims(head: Head) -> bool:
    raw = head.keys >= {"input_ids", "token_ids", "top_values"}
    return raw or (head.kind == ".parquet" and bool(head.keys & set(_PACKED)))


IMPORTER = Importer(
    "distillkit",
    "1",
    "captured teacher logits, raw form",
    _claims,
    _read,
    {
        "prompt_token_ids, response_token_ids": "input_ids: the first, then all others",
        "response_mask": "false: the policy sampled nothing of it",
        "topk": "token_ids and top_values, row t of token t + 1",
        "response_logprobs": "the entry of each token",
    },
    (
        "compressed captures: they need DistillKit's codec, and are lossy",
        "sequences with a token outside its own top-k: its logprob is not in the file",
    ),
    logprobs="raw",
)
