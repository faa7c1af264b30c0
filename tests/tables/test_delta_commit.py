"""Commits to one table's Delta log: Delta's own form, the next version, no gap, no loss."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from s2d_store.errors import StoreError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.storage.location import Place
from s2d_store.storage.object_path import ObjectPath
from s2d_store.store import Store
from s2d_store.tables import (
    checkpoint_file,
    data_files,
    delta_commit,
    delta_log,
    journal,
    table_state,
)
from s2d_store.tables.checkpoint_file import Hint
from s2d_store.tables.snapshot import table_path
from tests.support import synthetic


def commit(store: Store, *names: str) -> None:
    for name in names:
        rows = synthetic.table("policies", [synthetic.policy(name)])
        store.commit({"policies": rows}, fresh=True)


def policies(store: Store) -> list[str]:
    return sorted(row[0] for row in store.sql("SELECT name FROM policies").fetchall())


def folder_of(store: Store) -> Any:
    return table_path(store.root, "policies")


def numbered(n: int) -> list[str]:
    return [f"p{i:02d}" for i in range(n)]


def as_another_process() -> None:
    table_state.forget()


def test_other_engines_read_and_write_the_same_table(store: Store) -> None:
    commit(store, "a", "b")
    foreign = DeltaTable(folder_of(store))
    assert [entry["operation"] for entry in foreign.history()] == ["WRITE", "WRITE", "CREATE TABLE"]
    read = pl.read_delta(str(folder_of(store)))
    assert sorted(read["name"]) == ["a", "b"]
    added = read.filter(pl.col("name") == "a").with_columns(name=pl.lit("c"), policy_id=pl.lit("c"))
    added.write_delta(str(folder_of(store)), mode="append")
    commit(store, "d")
    assert policies(store) == ["a", "b", "c", "d"]
    list(compact(store, ["policies"]))
    assert [e["operation"] for e in DeltaTable(folder_of(store)).history(2)] == [
        "OPTIMIZE",
        "WRITE",
    ]
    assert sorted(pl.read_delta(str(folder_of(store)))["name"]) == ["a", "b", "c", "d"]
    at_first = DeltaTable(folder_of(store), version=1).to_pyarrow_table()
    assert at_first.column("name").to_pylist() == ["a"]


def test_only_checkpoints_open_the_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was committed before, a commit looks at none of it."""
    opened = []

    class Counted(DeltaTable):
        def __init__(self, path: str) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr("deltalake.DeltaTable", Counted)
    every = delta_commit.CHECKPOINT_INTERVAL
    commit(store, *numbered(every - 1))
    assert opened == []
    commit(store, "last")
    assert opened == [str(folder_of(store))]
    assert checkpoint_file.hint(folder_of(store)) == Hint(every, every + 2)
    as_another_process()
    commit(store, "more")
    assert len(policies(store)) == every + 1
    assert DeltaTable(folder_of(store)).version() == every + 1


@pytest.mark.parametrize("others", [0, 1, 2, 3, 4, 7, 8, 20])
def test_versions_of_other_processes_are_found(store: Store, others: int) -> None:
    commit(store, "first")
    known = dict(table_state._kept)
    commit(store, *numbered(others))
    table_state._kept.update(known)
    assert delta_commit.newest(folder_of(store)) == 1 + others
    as_another_process()
    assert delta_commit.newest(folder_of(store)) == 1 + others


def test_a_version_that_is_taken_is_stepped_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two other writers commit between the look and the write."""
    real, late = delta_commit.newest, iter((True,))

    def slow(folder: Place) -> int:
        found = real(folder)
        if next(late, False):
            commit(store, "b", "c")
        return found

    monkeypatch.setattr(delta_commit, "newest", slow)
    commit(store, "a")
    assert policies(store) == ["a", "b", "c"]
    assert delta_log.versions(folder_of(store)) == [0, 1, 2, 3]


def test_another_store_in_its_place(store: Store) -> None:
    commit(store, *numbered(5))
    shutil.rmtree(store.folder)
    again = Store.init(store.root)
    commit(again, "new")
    assert policies(again) == ["new"]
    assert delta_log.versions(folder_of(again)) == [0, 1]


def test_nothing_is_put_into_the_gap_of_a_damaged_log(store: Store) -> None:
    commit(store, *numbered(4))
    path = folder_of(store) / "_delta_log" / f"{2:020d}.json"
    path.unlink()
    as_another_process()
    with pytest.raises(StoreError, match="lacks version 2"):
        commit(store, "again")
    assert not path.exists()


def test_what_a_killed_writer_left_is_swept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise SystemExit("killed")

    monkeypatch.setattr(os, "link", dies)
    monkeypatch.setattr(Path, "unlink", dies)
    with pytest.raises(SystemExit):
        commit(store, "a")
    monkeypatch.undo()
    drafts = list(folder_of(store).glob("_delta_log/.*.draft"))
    assert len(drafts) == 1
    assert policies(store) == []
    assert vacuum(store, grace_s=-1).recovered == 1
    assert policies(store) == ["a"]
    assert not drafts[0].exists()


def test_an_answer_that_got_lost(bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is there, the client asks again and hears that it is. Before that, the service
    refuses to decide between two that come at once (409 at S3): neither is there.
    """
    store, real, refusals = Store.init(bucket), ObjectPath.create, iter((True, True))

    def create(path: ObjectPath, data: bytes) -> object:
        in_log = path.parent.name == "_delta_log"
        if in_log and next(refusals, False):
            return None
        made = real(path, data)
        return None if in_log else made

    with monkeypatch.context() as answers:
        answers.setattr(ObjectPath, "create", create)
        commit(store, "a")
    assert policies(store) == ["a"]
    assert delta_log.versions(folder_of(store)) == [0, 1]


def test_a_link_that_was_made_and_is_said_to_be_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's disk that asks twice."""
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(17, "File exists", str(target))

    monkeypatch.setattr(os, "link", link)
    commit(store, "a", "b")
    assert [done.files for done in compact(store, ["policies"])] == [2]
    assert policies(store) == ["a", "b"]
    assert delta_log.versions(folder_of(store)) == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"version": null}', "{}"])
def test_a_torn_hint_is_no_hint(store: Store, text: str) -> None:
    commit(store, "a", "b")
    (folder_of(store) / "_delta_log" / "_last_checkpoint").write_text(text)
    assert checkpoint_file.hint(folder_of(store)) == Hint(-1, None)
    as_another_process()
    assert delta_commit.newest(folder_of(store)) == 2


def test_a_checkpoint_that_fails_is_no_commit_that_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(delta_commit, "CHECKPOINT_INTERVAL", 2)
    monkeypatch.setattr(DeltaTable, "create_checkpoint", full)
    commit(store, "a")
    with pytest.raises(StoreError, match="is stored, but its log has no new checkpoint"):
        commit(store, "b")
    assert journal.pending(store.root) == []
    assert policies(store) == ["a", "b"]
    commit(store, "c")
    monkeypatch.undo()
    assert policies(store) == ["a", "b", "c"]


def test_a_dead_writers_commit_is_finished_among_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look reads what was added since the last one, not the whole log."""
    commit(store, *numbered(5))
    with monkeypatch.context() as dying:
        dying.setattr(journal, "_append", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            commit(store, "dead")
    real_read, real_commit = delta_log.read_commits, delta_commit.commit
    read: list[int] = []
    others = iter(numbered(8)[5:])

    def counted(folder: Place, wanted: Sequence[int]) -> Any:
        read.append(len(wanted))
        return real_read(folder, wanted)

    def quicker(folder: Path, version: int, actions: Any, operation: str) -> bool:
        other = next(others, None)
        if other is not None:
            rows = synthetic.table("policies", [synthetic.policy(other)])
            path, size = data_files.write(folder, {}, lambda _: [rows], rows.schema)
            file = journal.NewFile("policies", path, size, 1, {}, 0)
            assert real_commit(folder, version, [file.action()], "WRITE")
        return real_commit(folder, version, actions, operation)

    monkeypatch.setattr(delta_log, "read_commits", counted)
    monkeypatch.setattr(delta_commit, "commit", quicker)
    assert journal.recover(store.root) == 1
    assert read == [6, 1, 1, 1]
    assert policies(store) == ["dead", *numbered(8)]


def test_a_commit_is_one_line_an_action(store: Store) -> None:
    commit(store, "a")
    text = (folder_of(store) / "_delta_log" / f"{1:020d}.json").read_text()
    info, add = (json.loads(line) for line in text.splitlines())
    assert info["commitInfo"]["engineInfo"].startswith("s2d:")
    assert add["add"]["dataChange"] is True
    assert json.loads(add["add"]["stats"])["numRecords"] == 1
