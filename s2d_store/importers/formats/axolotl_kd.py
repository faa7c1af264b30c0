"""axolotl KD, prepared form: input_ids, labels and a teacher's targets of each position.

Its values were renormalised over the k entries, so they are no logprobs of the teacher: the tokens
are stored and the targets stay in the file. Forms v1 and v2 have no ids, and their alignment is not
certain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from s2d_store.errors import InputError
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reject
from s2d_store.importers.registry import Head, Importer

_IGNORED = -100


def _make(line: Line) -> Iterator[Read]:
    row = line.value
    if "input_ids" not in row:
        yield Reject(line.file, line.number, "form v1 or v2: no token ids, only the prepared form")
        return
    tokens, labels = row["input_ids"], row["labels"]
    if len(tokens) != len(labels):
        raise InputError(f"{len(labels)} labels for {len(tokens)} tokens")
    flags = [label != _IGNORED for label in labels]
    if True not in flags:
        raise InputError("no token has a label")
    start = flags.index(True)
    mask = flags[start:]
    held = ("input_ids", "labels", "target_token_ids", "target_logprobs", "target_mask")
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=line.content,
        asked=Asked(),
        prompt_token_ids=tokens[:start],
        response_token_ids=tokens[start:],
        response_mask=None if all(mask) else mask,
        rest={name: value for name, value in row.items() if name not in held},
    )


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, _make)


def _claims(head: Head) -> bool:
    return "target_token_ids" in head.keys


IMPORTER = Importer(
    "axolotl-kd",
    "1",
    "prepared distillation data",
    _claims,
    _read,
    {
        "prompt_token_ids, response_token_ids, response_mask": "input_ids, cut at the first label",
    },
    (
        "target_logprobs: renormalised over k, so they are not the teacher's; score the rollouts "
        "with the teacher",
        "forms v1 and v2: no token ids, and no certain alignment",
    ),
)
