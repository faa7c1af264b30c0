"""Queries about one rollout in a store of many files read the files that may hold it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from s2d_store.store import Store
from tests.support import small_commits
from viewer import snapshots
from viewer.pages import rollout
from viewer.snapshots import OF_ONE_ROLLOUT as ONE
from viewer.snapshots import Record, Snapshots


def test_one_rollout_is_read_from_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(tmp_path / "store")
    for i in range(3):
        small_commits.commit(store, "writer", i)
    names = [name for (name,) in store.sql("SELECT rollout_id FROM rollouts").fetchall()]

    def rows() -> dict[str, list[Record]]:
        view = Snapshots(store, {"rollout": rollout.QUERIES}).newest()
        found = {name: view.rows(name, rollout=names[0]) for name in ONE if name != "topk_at"}
        return found | {"topk_at": view.rows("topk_at", rollout=names[0], position=0)}

    from_all = rows()
    assert all(from_all.values())
    for table in ("rollouts", "topk"):
        for file in store.snapshot().files[table]:
            held = pq.read_table(file, columns=["rollout_id"]).column(0).to_pylist()
            if names[0] not in held:
                Path(file).write_bytes(b"")
    monkeypatch.setattr(snapshots, "_MANY_FILES", 1)
    assert rows() == from_all
