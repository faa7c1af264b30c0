"""Stores in folders with odd names, behind links, and on disks without hard links."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from s2d_store.errors import InputError, StoreError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.store import Store
from s2d_store.tables import delta_commit, table_state
from s2d_store.tables.snapshot import table_path
from tests.support import small_commits, synthetic

COUNT = "SELECT count(*), count(DISTINCT rollout_id) FROM rollouts"


def used(store: Store) -> list[tuple[int, int]]:
    """Commit, look up, checkpoint, compact, vacuum, examine; what is there then."""
    store.commit({"policies": synthetic.table("policies", [synthetic.policy("p")])})
    policy = store.sql("SELECT policy_id FROM policies").fetchall()[0][0]
    for i in range(2):
        store.commit(small_commits.rows("run", i, policy))
        assert set(store.commit(small_commits.rows("run", i, policy)).values()) == {0}
    delta_commit.checkpoint(table_path(store.root, "rollouts"))
    assert len(list(compact(store))) > 1
    vacuum(store, grace_s=-1)
    table_state.forget()
    assert examine(store).healthy
    return store.sql(COUNT).fetchall()


@pytest.mark.parametrize(
    "name",
    [
        "br[12]",
        "star*",
        "what?",
        "per%zz",
        "a b",
        "hash#",
        "and&so=on",
        "q'uote\"s",
        "é漢字",
    ],
)
def test_a_store_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    """Also where a copy lies in a folder that the name, taken for a pattern or a code, fits."""
    root = tmp_path / name / "store"
    root.parent.mkdir()
    store = Store.init(root)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert used(store) == [(4, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == before == [name]
    for other in ("br1", "br2", "starlet", "whats", "perAx"):
        shutil.copytree(root.parent, tmp_path / other)
    table_state.forget()
    assert store.sql(COUNT).fetchall() == [(4, 4)]
    again = small_commits.rows("run", 0, "x")
    assert store.commit({"rollouts": again["rollouts"]}) == {"rollouts": 2}
    assert store.sql(COUNT).fetchall() == [(6, 6)]


@pytest.mark.parametrize("name", ["new\nline", "tab\t", "back\\slash", "byte\udcff", "per%41x"])
def test_a_folder_that_readers_would_take_for_another_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no store can lie at"):
        Store.init(tmp_path / name)
    with pytest.raises(InputError, match="which readers of Delta tables take for something else"):
        Store.open(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_tables_folder_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "store")
    folder = table_path(store.root, "topk")
    assert isinstance(folder, Path)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert used(store) == [(4, 4)]
    assert store.sql("SELECT count(*) FROM topk").fetchall() == [(4,)]


def test_a_partition_of_another_writer(tmp_path: Path) -> None:
    """With a value that has to be escaped in a path."""
    store = Store.init(tmp_path / "store")
    assert used(store) == [(4, 4)]
    folder = str(table_path(store.root, "rollouts"))
    odd = "we/ird % ü=x"
    rows = pl.read_delta(folder).head(1).with_columns(rollout_id=pl.lit("o"), role=pl.lit(odd))
    rows.write_delta(folder, mode="append")
    found = store.sql("SELECT role FROM rollouts WHERE rollout_id = 'o'").fetchall()
    assert found == [(odd,)]
    assert examine(store).healthy
    assert (
        DeltaTable(folder).version() == table_state.read(table_path(store.root, "rollouts")).version
    )


def test_a_file_system_without_hard_links_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(target))

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StoreError, match="this file system has no hard links"):
        Store.init(tmp_path / "store")
