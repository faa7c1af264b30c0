"""`s2d import`: other systems' rollouts into a store, in chunks, each committed whole."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

import queries
from s2d_store import ids
from s2d_store.errors import InputError, StoreError
from s2d_store.importers import mapped, registry
from s2d_store.importers.policies import Policies
from s2d_store.importers.prompts import Prompts
from s2d_store.importers.record import Read, Record, Reject
from s2d_store.importers.registry import Chosen
from s2d_store.importers.rows import Row, Rows
from s2d_store.importers.settings import ImportConfig
from s2d_store.importers.tokens import TokenUse
from s2d_store.rollouts.progress import OnProgress, Progress, ignore
from s2d_store.rollouts.selection import check_counts
from s2d_store.runs import record
from s2d_store.schema import TABLES, without_encoding
from s2d_store.store import Store

CHUNK_BYTES = 64 << 20
# Objects that are made between two looks of Python's collector; its own figure is 700.
COLLECT_AFTER = 200_000
# What decides the rows of an import, beside the files.
_IDENTITY: tuple[str, ...] = (
    "policy",
    "tokenizer",
    "role",
    "purpose",
    "source",
    "split",
    "logprobs",
    "map",
)
_IDENTITY += ("temperature", "top_p", "top_k", "max_tokens")


@dataclass
class Imported:
    """What an import did, or with `plan` would do.

    Attributes:
        run_id: its run.
        chosen: the format and its files.
        added: rows by table that were new.
        copies: rollouts that were stored before, or stood in the files above.
        groups: groups of the new rollouts, by size.
        columns: new rollouts that have a value, by column.
        tokens: of the new rollouts, tokens that their policies sampled.
        rejects: rows that could not be held, by reason.
        rejects_file: where they are listed; None where there are none, or with `plan`.
        notes: what was noticed of rows that are held, by kind.
        matched: prompts that the store had, found by how they render.
    """

    run_id: str
    chosen: Chosen
    added: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    groups: Counter[int] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    rejects_file: Path | None = None
    notes: Mapping[str, int] = field(default_factory=dict)
    matched: int = 0


def import_dump(store: Store, config: ImportConfig, on_progress: OnProgress = ignore) -> Imported:
    """Read, check and store other systems' rollouts.

    Args:
        store: the store.
        config: what to import and how; with `plan` nothing is stored.
        on_progress: called as records are read.

    Raises:
        NotFoundError: no such file, format, or tokenizer's policy.
        InputError: files of another or of several formats, a tokenizer that does not fit, or
            nothing that can be held; then nothing is stored.
        StoreError: another process imports into the store.
    """
    check_counts(("--chunk", config.chunk_rows, 1))
    chosen = mapped.choose(config) if config.map else registry.choose(config.format, config.paths)
    identity = {name: getattr(config, name) for name in _IDENTITY}
    identity |= {"format": chosen.importer.name}
    digest = ids.content_id(json.loads(json.dumps(identity)))
    run_id = f"import-{chosen.importer.name}-{digest[:8]}"
    done = Imported(run_id, chosen)
    if config.plan:
        _run(store, config, done, on_progress)
        return done
    busy = StoreError(
        "another process imports into this store",
        "two could number one group twice",
        "wait for it to end",
    )
    asked = {"paths": list(config.paths)}
    with (
        store.exclusive(".import", busy),
        record.record_run(store, run_id, "import", identity, asked=asked),
    ):
        _run(store, config, done, on_progress)
    return done


def _run(store: Store, config: ImportConfig, done: Imported, on_progress: OnProgress) -> None:
    importer = done.chosen.importer
    tokens = TokenUse.of(store, config.tokenizer) if config.tokenizer else None
    policies = Policies.of(store, config.policy, tokens.columns if tokens else {})
    prompts = Prompts(config.source or importer.name, config.split, tokens)
    stored, sizes = _stored(store)
    before = dict(sizes)
    rows = Rows(importer, config, done.run_id, policies, prompts, tokens, stored, sizes)
    progress = Progress(total=0)
    rejects = Path(config.rejects or f"{done.run_id}-rejects.jsonl")
    with _rejects(None if config.plan else rejects, done) as reject, _collecting_rarely():
        size = 0
        for item in _records(done.chosen):
            refused = item if isinstance(item, Reject) else rows.add(item)
            if refused is not None:
                reject(refused)
            size += item.size if isinstance(item, Record) else 0
            progress.done += 1
            full = len(rows.tables["rollouts"]) >= config.chunk_rows or size >= CHUNK_BYTES
            if full:
                _commit(store, config, done, rows)
                size, progress.committed = 0, done.added["rollouts"]
                on_progress(progress)
        _commit(store, config, done, rows)
    done.copies, done.notes, done.matched = rows.copies, rows.notes, len(prompts.matched)
    done.groups = Counter(n - before.get(g, 0) for g, n in rows.sizes.items())
    done.groups.pop(0, None)
    if not done.added["rollouts"] and not rows.copies and done.rejects:
        ((reason, count),) = done.rejects.most_common(1)
        raise InputError(
            f"nothing could be imported: {sum(done.rejects.values())} rows were refused",
            f"{count} of them: {reason}",
            f"see {rejects}" if not config.plan else "correct the files, or name another format",
        )


def _records(chosen: Chosen) -> Iterator[Read]:
    for path, name in chosen.files:
        yield from chosen.importer.read(path, name)


def _stored(store: Store) -> tuple[set[int], dict[str, int]]:
    """Imported rollouts of the store, and how many each of their groups has."""
    con = store.connect(text="rollouts")
    known = con.execute("SELECT rollout_id FROM rollouts WHERE origin = 'imported'").fetchall()
    sizes = con.execute(queries.internal("imported_groups")).fetchall()
    return {int(rollout, 16) for (rollout,) in known}, dict(sizes)


def _commit(store: Store, config: ImportConfig, done: Imported, rows: Rows) -> None:
    taken = rows.take()
    tables = {name: table_of(name, found) for name, found in taken.items() if found}
    if "rollouts" in tables:
        _count(done, tables["rollouts"])
    if "rewards" in tables:
        for verifier in pc.value_counts(tables["rewards"].column("verifier")).to_pylist():
            done.columns[f"rewards {verifier['values']}"] += verifier["counts"]
    if config.plan:
        done.added.update({name: len(found) for name, found in taken.items()})
    elif tables:
        done.added.update(store.commit(tables))


def _count(done: Imported, rollouts: pa.Table) -> None:
    """Which columns are known of how many new rollouts, and their sampled tokens."""
    for name in rollouts.column_names:
        column = rollouts.column(name)
        if known := len(column) - column.null_count:
            done.columns[name] += known
    if "sampled_tokens" in rollouts.column_names:
        done.tokens += pc.sum(rollouts.column("sampled_tokens")).as_py() or 0


def table_of(name: str, rows: list[Row]) -> pa.Table:
    """Rows as a table; columns that no row has are left to be null."""
    schema = without_encoding(TABLES[name]).schema
    present = set().union(*rows)
    fields = [f for f in schema if f.name in present or not f.nullable]
    # Arrow looks up each row's keys itself: a list per column, made here, took four times as long.
    whole = pa.array(rows, pa.struct([field.with_nullable(True) for field in fields]))
    return pa.table(whole.flatten(), schema=pa.schema(fields))


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Python's collector would go through all rows that wait for their commit, again and again, and
    find nothing: rows are in no cycle.
    """
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _rejects(path: Path | None, done: Imported) -> Iterator[Any]:
    """A function that counts a reject and writes it down, one JSON object per line."""
    with ExitStack() as open_files:
        file: list[IO[str]] = []

        def reject(refused: Reject) -> None:
            done.rejects[refused.reason] += 1
            if path is None:
                return
            if not file:
                file.append(open_files.enter_context(path.open("w", encoding="utf-8")))
                done.rejects_file = path
            told = asdict(refused) | {"line": refused.line + 1}
            file[0].write(json.dumps(told, ensure_ascii=False) + "\n")

        yield reject
