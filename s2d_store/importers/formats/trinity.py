"""Trinity-RFT: the columns of its experience table, as JSONL or Parquet.

`experience_bytes` is a Python pickle, which can run code: it is never opened, and left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler
from s2d_store.importers.registry import Head, Importer

_HELD = {"id", "prompt", "response", "message_list", "reward", "model_version"}
_BLOB = "experience_bytes"


def _make(line: Line) -> Iterator[Read]:
    row = line.value
    messages = _messages(row.get("message_list"))
    split = next((i for i, m in enumerate(messages or ()) if m["role"] == "assistant"), 0)
    reward = row.get("reward")
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        key=str(row["id"]) if row.get("id") is not None else "",
        group=(row.get("model_version"), row["prompt"]),
        asked=Asked(messages=messages[:split] if messages and split else None, text=row["prompt"]),
        sampler=Sampler(version=row.get("model_version")),
        messages=messages,
        text=row["response"],
        rewards=[] if reward is None else [Reward("reward", reward)],
        rest={n: v for n, v in row.items() if n not in _HELD and n != _BLOB} | {"id": row["id"]},
    )


def _messages(value: Any) -> list[dict[str, Any]] | None:
    found = json.loads(value) if isinstance(value, str) and value else value
    return found or None


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, _make)


def _claims(head: Head) -> bool:
    return head.keys >= {"prompt", "response", "reward", "model_version"}


IMPORTER = Importer(
    "trinity",
    "1",
    "columns of the experience table",
    _claims,
    _read,
    {
        "prompt": "message_list before the assistant's first message, else prompt",
        "messages": "message_list",
        "response_text": "response",
        "policy version": "model_version",
        "group_id": "equal prompt of a version",
        "rewards": "reward",
    },
    ("experience_bytes, with tokens and logprobs: a pickle, which is never opened",),
)
