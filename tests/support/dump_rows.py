"""Records of another system's dump as rows of a store's tables, and the records back from SQL.

A format says which facts of a record have a column (`Facts`: path in the record -> how it is read
from the stored rows). All else of the record, its `rest`, goes to column `source` of the rollout.
"""

from __future__ import annotations

import copy
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from s2d_store import ids
from s2d_store.messages import from_stored, to_stored
from s2d_store.rollouts.sequences import check_row
from s2d_store.schema import TABLES, without_encoding
from s2d_store.store import Store

NOW = datetime(2026, 11, 27, tzinfo=UTC)
Record = dict[str, Any]
# A value that a copied file has instead of the original's: path -> value.
Changes = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One record of a dump: its file, its place there, and itself.

    `content` is what tells its rollouts from others, where that is not the record.
    """

    file: str
    line: int
    record: Record
    content: str = ""


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


Facts = dict[str, Callable[[list[Stored]], Any]]


@dataclass
class Rows:
    """Rows to commit, by table and key: a row that comes again is the row that is there."""

    importer: str
    version: str
    run_id: str
    tables: dict[str, dict[tuple[Any, ...], Record]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    copies: dict[str, list[tuple[int, str, Changes]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _seen: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def add(self, table: str, row: Record) -> None:
        key = tuple(row.get(name) for name in TABLES[table].key)
        self.tables[table].setdefault(key, row)

    def policy(self, model: str | None, step: int | None = None, **known: Any) -> str:
        """A policy that is known by name alone, as a version of a model in training."""
        name = "-".join(str(p) for p in (self.importer, (model or "policy"), step) if p is not None)
        policy_id = ids.content_id("policy", "outside", name, known.get("fingerprint"))
        row = {
            "policy_id": policy_id,
            "name": name.replace("/", "--"),
            "kind": "outside",
            "location": model,
            "update": step,
            "created_at": NOW,
        }
        self.add("policies", row | known)
        return policy_id

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], *, prompt_id: str = "", **known: Any
    ) -> str:
        """A prompt of plain messages; `prompt_id` where only its tokens are known."""
        stored = [to_stored(message) for message in messages]
        prompt_id = prompt_id or ids.prompt_id(stored, known.get("tools"))
        row = {
            "prompt_id": prompt_id,
            "source": self.importer,
            "split": "train",
            "messages": stored,
            "answer_type": "none" if known.get("answer") is None else "text",
            "meta": "{}",
            "created_at": NOW,
        }
        self.add("prompts", row | known)
        return prompt_id

    def rollout(
        self,
        entry: Entry,
        rest: Record | None,
        *,
        group: object,
        prompt: str,
        policy: str,
        part: int = 0,
        changes: Changes | None = None,
        **known: Any,
    ) -> str:
        """One rollout of an entry; `rest` is what no column of it, or of its first part, holds.

        Args:
            entry: where it comes from.
            rest: with the first part alone.
            group: the system's own name of what was sampled together.
            prompt: its prompt's id.
            policy: its policy's id.
            part: 0, 1, ... of the rollouts of one entry.
            changes: facts of the entry that a copy may have otherwise, such as a logging step.
            known: further columns.

        Returns:
            its id, made of the record's content and its place among equal ones of its file.
        """
        content = entry.content or ids.content_id(entry.record)
        twin = self._seen[entry.file, content, part]
        self._seen[entry.file, content, part] += 1
        rollout_id = ids.content_id("imported", self.importer, content, twin, part)
        group_id = ids.content_id("group", self.importer, group)
        index = known.pop("sample_index", self._seen[entry.file, group_id])
        self._seen[entry.file, group_id] += 1
        if (rollout_id,) in self.tables["rollouts"]:
            if part == 0:
                self.copies[entry.file].append((entry.line, rollout_id, changes or {}))
            return rollout_id
        source = {
            "importer": self.importer,
            "version": self.version,
            "file": entry.file,
            "line": entry.line,
            "part": part,
            "rest": rest,
        }
        row = {
            "rollout_id": rollout_id,
            "role": "student",
            "run_id": self.run_id,
            "group_id": group_id,
            "origin": "imported",
            "source": json.dumps(source, ensure_ascii=False, allow_nan=False),
            "prompt_id": prompt,
            "policy_id": policy,
            "purpose": "train",
            "round": 0,
            "sample_index": index,
            "tokens_from": "sampled" if known.get("response_token_ids") is not None else "none",
            "created_at": NOW,
        } | known
        for name in ("prompt", "response"):
            if row.get(f"{name}_token_ids") is not None:
                row[f"{name}_tokens"] = len(row[f"{name}_token_ids"])
        if row.get("response_tokens") is not None and row.get("response_mask") is None:
            row["sampled_tokens"] = row["response_tokens"]
        check_row(f"{entry.file} line {entry.line}", row)
        self.add("rollouts", row)
        return rollout_id

    def reward(self, rollout: str, name: str, reward: float | None, **known: Any) -> None:
        """A reward as its source reported it: never called correct or wrong."""
        row = {
            "rollout_id": rollout,
            "verifier": f"imported-{name}",
            "verifier_version": self.version,
            "attempt": 0,
            "reward": reward,
            "outcome": "reported",
            "extracted": "",
            "detail": "",
            "run_id": self.run_id,
            "created_at": NOW,
        } | known
        row["metrics"] = None if row.get("metrics") is None else json.dumps(row["metrics"])
        self.add("rewards", row)

    def finish(self, config: Record) -> dict[str, pa.Table]:
        """Every table's rows; `config` is what belongs to the files and to no rollout of them."""
        run = {
            "run_id": self.run_id,
            "kind": "import",
            "attempt": 0,
            "status": "done",
            "config": json.dumps({"about": config, "copies": self.copies}, allow_nan=False),
            "code_version": "test",
            "parents": [],
            "entered_at": NOW,
        }
        self.add("runs", run)
        return {
            name: pa.Table.from_pylist(
                list(rows.values()), schema=without_encoding(TABLES[name]).schema
            )
            for name, rows in self.tables.items()
        }


def moment(seconds: float) -> datetime:
    """A time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True)
class Format:
    """How one system's records become rows, and rows its records.

    Attributes:
        name: the folder under dumps/.
        version: of the writer, as far as it is known.
        read: the folder's records and what its files say besides.
        add: adds an entry's rows; `about` is what the files say besides.
        facts: path in a record -> its value, read from the rollouts of the entry in the order of
            `part`. The paths are the same whether the record is whole or only its rest is left.
        rest: what no column holds: paths that nothing else of the rest lies beside or above, list
            places written as *.
    """

    name: str
    version: str
    read: Callable[[Path], tuple[list[Entry], Record]]
    add: Callable[[Rows, Entry, Record], None]
    facts: Callable[[Record], Facts]
    rest: frozenset[str]


def imported(store: Store, made: Format, folder: Path) -> dict[str, int]:
    """Commit a folder's records; returns rows added by table."""
    entries, about = made.read(folder)
    contents = [(entry.file, entry.line, ids.content_id(entry.record)) for entry in entries]
    rows = Rows(made.name, made.version, ids.content_id("import", made.name, contents))
    for entry in entries:
        made.add(rows, entry, about)
    return store.commit(rows.finish(about))


def stored_entries(store: Store) -> dict[tuple[str, int], tuple[list[Stored], Changes]]:
    """By file and line: an entry's rollouts as SQL returns them, and what a copy has otherwise."""
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
    entries: dict[tuple[str, int], tuple[list[Stored], Changes]] = {
        key: (parts, {}) for key, parts in found.items()
    }
    by_id = {parts[0].rollout["rollout_id"]: parts for parts in found.values()}
    for file, copies in run_config(store)["copies"].items():
        for line, rollout, changes in copies:
            entries[file, line] = by_id[rollout], changes
    return entries


def run_config(store: Store) -> Record:
    """Configuration of the store's only run."""
    ((config,),) = store.sql("SELECT config FROM runs").fetchall()
    found: Record = json.loads(config)
    return found


def part_of(rollout: Record) -> Record:
    """Column `source` of a rollout."""
    found: Record = json.loads(rollout["source"])
    return found


def rebuilt(made: Format, parts: list[Stored], changes: Changes) -> Record:
    """The record again: its rest, with every fact read from its column put back."""
    rest: Record = copy.deepcopy(part_of(parts[0].rollout)["rest"])
    values = {path: read(parts) for path, read in made.facts(rest).items()}
    for path, value in (values | changes).items():
        put(rest, path, value)
    return rest


def without(record: Record, paths: Iterable[str]) -> Record:
    """A deep copy without the values at these paths; in lists null stands in their place."""
    found = copy.deepcopy(record)
    for path in paths:
        holder, last = _holder(found, path)
        if isinstance(holder, list):
            holder[int(last)] = None
        else:
            del holder[last]
    return found


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
