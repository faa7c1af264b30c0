"""Records of another system's dump beside the rows that its importer made of them.

A format says which facts of a record have a column (`Facts`: path in the record -> how it is read
back from the stored rows). All else of the record must be in column `source` of the rollout.
"""

from __future__ import annotations

import copy
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.importers.import_dump import Imported, import_dump
from s2d_store.importers.settings import ImportConfig
from s2d_store.messages import from_stored
from s2d_store.store import Store

POLICY = "dumped"
Record = dict[str, Any]


def dumps() -> Path:
    """The folder of dumps that lies beside the repository's checkout, or a skip."""
    for folder in Path(__file__).resolve().parents:
        if (found := folder / "shared" / "data" / "dumps").is_dir():
            return found
    pytest.skip("no shared/data/dumps beside the checkout")


@dataclass(frozen=True)
class Entry:
    """One record of a dump: its file, its place there, and itself."""

    file: str
    line: int
    record: Record


@dataclass(frozen=True)
class Stored:
    """One rollout as SQL returns it, with the rows of other tables that belong to it."""

    rollout: Record
    prompt: Record
    policies: Mapping[str, Record]
    rewards: Mapping[str, Record]
    topk: Sequence[Record]

    @property
    def policy(self) -> Record:
        return self.policies[self.rollout["policy_id"]]

    @property
    def messages(self) -> list[Record]:
        found: list[Record] = json.loads(self.rollout["messages"])
        return found

    @property
    def prompt_messages(self) -> list[Record]:
        return [from_stored(message) for message in self.prompt["messages"]]

    def number(self, column: str) -> float | None:
        """A float32 column as the decimal that was written to it."""
        value = self.rollout[column]
        return None if value is None else float(str(np.float32(value)))

    def reward(self, name: str) -> Any:
        return self.rewards[f"imported-{name}"]["reward"]

    def metrics(self, name: str) -> Record:
        found: Record = json.loads(self.rewards[f"imported-{name}"]["metrics"])
        return found

    @property
    def answer(self) -> Any:
        """The gold answer as its file has it."""
        return part_of(self.rollout).get("answer", self.prompt["answer"])


Fact = Callable[[list[Stored]], Any]
Facts = dict[str, Fact]


@dataclass(frozen=True)
class Format:
    """How one system's records are read back from the rows that its importer made.

    Attributes:
        name: the folder under dumps/.
        importer: the importer's name.
        read: the folder's records.
        facts: path in a record -> its value, read from the rollouts of the entry in the order of
            `part`. The paths are the same whether the record is whole or only its rest is left.
        rest: what no column holds: paths that nothing else of the rest lies beside or above, list
            places written as *.
    """

    name: str
    importer: str
    read: Callable[[Path], list[Entry]]
    facts: Callable[[Record], Facts]
    rest: frozenset[str]


def imported(store: Store, made: Format, folder: Path, **settings: Any) -> Imported:
    """Import a folder as format `auto`; what was refused is listed beside the store."""
    # Inspect's logs are of two models, each named there.
    policy = "" if made.importer == "inspect" else POLICY
    given = {"policy": policy, "rejects": str(store.root.parent / "rejects.jsonl"), **settings}
    return import_dump(store, ImportConfig(paths=(str(folder),), **given))


def stored_entries(store: Store) -> dict[tuple[str, int], list[Stored]]:
    """By file and line: an entry's rollouts as SQL returns them."""
    prompts = {row["prompt_id"]: row for row in _rows(store, "prompts")}
    policies = {row["policy_id"]: row for row in _rows(store, "policies")}
    rewards, topk = defaultdict[str, dict[str, Record]](dict), defaultdict[str, list[Record]](list)
    for row in _rows(store, "rewards"):
        rewards[row["rollout_id"]][row["verifier"]] = row
    for row in _rows(store, "topk"):
        topk[row["rollout_id"]].append(row)
    found: dict[tuple[str, int], list[Stored]] = defaultdict(list)
    for row in sorted(_rows(store, "rollouts"), key=lambda r: part_of(r)["part"]):
        about, rollout = part_of(row), row["rollout_id"]
        one = Stored(row, prompts[row["prompt_id"]], policies, rewards[rollout], topk[rollout])
        found[about["file"], about["line"]].append(one)
    return dict(found)


def part_of(rollout: Record) -> Record:
    """Column `source` of a rollout."""
    found: Record = json.loads(rollout["source"])
    return found


def rebuilt(made: Format, parts: list[Stored]) -> Record:
    """The record again: its rest, with every fact read from its column put back."""
    rest: Record = copy.deepcopy(part_of(parts[0].rollout)["rest"])
    for path, read in made.facts(rest).items():
        put(rest, path, read(parts))
    return rest


def put(record: Record, path: str, value: Any) -> None:
    """Set what is at a path; all before its last part is there."""
    holder, last = _holder(record, path)
    if isinstance(holder, list):
        holder[int(last)] = value
    else:
        assert last not in holder, f"{path} is in a column and in source"
        holder[last] = value


def left_over(made: Format, rest: Record) -> set[str]:
    """Paths of what a rest holds, list places written as *; not what held facts and is empty."""
    held = {".".join(path.split(".")[:n]) for path in made.facts(rest) for n in range(1, 20)}
    return {_starred(path) for path in _leaves(rest) if path and path not in held}


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        below = [(str(name), inner) for name, inner in value.items()]
    elif isinstance(value, list) and value:
        below = [(str(place), inner) for place, inner in enumerate(value)]
    else:
        yield path
        return
    for name, inner in below:
        yield from _leaves(inner, f"{path}.{name}" if path else name)


def _starred(path: str) -> str:
    return ".".join("*" if name.isdigit() else name for name in path.split("."))


def same(one: Any, other: Any) -> bool:
    """Deep equality, types included; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _holder(record: Record, path: str) -> tuple[Any, str]:
    *before, last = path.split(".")
    holder: Any = record
    for name in before:
        holder = holder[int(name)] if isinstance(holder, list) else holder[name]
    return holder, last


def _rows(store: Store, table: str) -> list[Record]:
    return store.sql(f"SELECT * FROM {table}").to_arrow_table().to_pylist()
