"""TRL: `<output_dir>/completions/completions_NNNNN.parquet` (1.16).

The buffer behind these files holds one generation batch, so files of several logging steps may hold
the same rows: what a row is, is decided by its batch without the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store import ids
from s2d_store.importers import files
from s2d_store.importers.files import Line
from s2d_store.importers.record import Asked, Message, Read, Record, Reject, Reward, Sampler
from s2d_store.importers.registry import Head, Importer

_OWN = {"step", "prompt", "completion", "advantage"}


def _read(path: Path, name: str) -> Iterator[Read]:
    try:
        table = pq.read_table(path)
    except files.DAMAGE as error:
        yield Reject(name, 0, "the file ends in the middle, or is damaged", str(error))
        return
    rows = table.to_pylist()
    batch = ids.content_id([{n: v for n, v in row.items() if n != "step"} for row in rows])
    floats = [f.name for f in table.schema if pa.types.is_floating(f.type) and f.name not in _OWN]
    size = table.nbytes // max(1, len(rows))
    for number, row in enumerate(rows):
        line = Line(name, number, f"{batch}/{number}", row, size)
        yield from files.made(line, lambda line: [_record(line, batch, floats)])


def _record(line: Line, batch: str, reward_names: list[str]) -> Record:
    row = line.value
    prompt, completion = row["prompt"], row["completion"]
    asked = Asked(text=prompt) if isinstance(prompt, str) else Asked(messages=_plain(prompt))
    messages, text = None, completion
    if not isinstance(completion, str):
        said = _plain(completion)
        messages, text = [*(asked.messages or ()), *said], said[-1].get("content")
    rewards = [Reward(name, row[name]) for name in reward_names if row[name] is not None]
    if row.get("advantage") is not None and rewards:
        rewards[0].metrics = {"advantage": row["advantage"]}
    used = _OWN | set(reward_names) if rewards else _OWN - {"advantage"} | set(reward_names)
    return Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(batch, prompt),
        asked=asked,
        sampler=Sampler(version=row["step"]),
        messages=messages,
        text=text,
        rewards=rewards,
        rest={name: value for name, value in row.items() if name not in used},
    )


def _plain(messages: list[dict[str, Any]]) -> list[Message]:
    """Messages without the fields that Parquet filled with null."""
    return [{n: v for n, v in message.items() if v is not None} for message in messages]


def _claims(head: Head) -> bool:
    return head.kind == ".parquet" and head.keys >= {"step", "prompt", "completion"}


IMPORTER = Importer(
    "trl",
    "1.16.0",
    "completions of GRPO and other trainers",
    _claims,
    _read,
    {
        "prompt": "prompt",
        "messages": "prompt and completion",
        "response_text": "the completion's last message",
        "policy version": "step (of logging)",
        "group_id": "equal prompt of one generation batch",
        "rewards": "every column of floats; advantage among the first one's metrics",
    },
    (
        "token ids, logprobs, finish reasons, sampling settings: TRL does not write them",
        "gold answers: TRL does not write them; stored prompts of equal messages have theirs",
    ),
)
