"""ms-swift: `completions.jsonl`, an object of columns per logging step or a row per completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler
from s2d_store.importers.registry import Head, Importer

_OWN = {"step", "gen_step", "prompt", "completion", "advantages", "entropy"}


def _make(line: Line) -> Iterator[Read]:
    table = line.value
    if not isinstance(table["prompt"], list):
        yield _record(line, table, 0)
        return
    columns = {name: value for name, value in table.items() if isinstance(value, list)}
    sizes = {name: len(value) for name, value in columns.items()}
    if len(set(sizes.values())) != 1:
        raise InputError(f"columns of different lengths: {sizes}")
    for part in range(sizes["prompt"]):
        row = {name: value[part] for name, value in columns.items()}
        one = replace(line, size=line.size // sizes["prompt"])
        yield _record(one, {**table, **row}, part)


def _record(line: Line, row: Mapping[str, Any], part: int) -> Record:
    step = row.get("gen_step", row.get("step"))
    step = int(step) if isinstance(step, str) and step.isdigit() else step
    others = {name: value for name, value in row.items() if name not in _OWN}
    numbers = {n: v for n, v in others.items() if isinstance(v, int | float)}
    rewards = [Reward(name, value) for name, value in numbers.items()]
    metrics = {n: row[n] for n in ("advantages", "entropy") if n in row}
    if rewards and metrics:
        rewards[0].metrics = metrics
    return Record(
        file=line.file,
        line=line.number,
        content=line.content,
        part=part,
        size=line.size,
        group=(step, row["prompt"]),
        asked=Asked(text=row["prompt"], form="templated"),
        sampler=Sampler(version=step),
        text=row["completion"],
        text_form="templated",
        rewards=rewards,
        rest={name: value for name, value in others.items() if name not in numbers},
    )


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, _make)


def _claims(head: Head) -> bool:
    named = head.keys >= {"prompt", "completion"} and head.keys & {"step", "gen_step"}
    return head.kind == ".jsonl" and bool(named)


IMPORTER = Importer(
    "ms-swift",
    "1",
    "completions of GRPO and GKD",
    _claims,
    _read,
    {
        "prompt": "prompt, matched with stored prompts",
        "response_text": "completion, special tokens kept unless --tokenizer is given",
        "policy version": "step or gen_step",
        "group_id": "equal prompt of a step",
        "rewards": "every column of numbers; advantages and entropy among the metrics",
    },
    ("token ids, logprobs, finish reasons and sampling settings: ms-swift does not write them",),
)
