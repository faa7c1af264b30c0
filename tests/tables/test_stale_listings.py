"""Directories whose newest names are not seen for a while, as NFS clients cache them.

What is hidden here is there all the same: creating it again fails, as on the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from s2d_store.errors import StoreError
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.storage.local_backend import LocalBackend
from s2d_store.store import Store
from s2d_store.tables import delta_log, table_state
from s2d_store.tables.snapshot import table_path
from tests.support import small_commits

WRITTEN = ("rollouts", "rewards", "topk")


@contextmanager
def before(store: Store, tables: Sequence[str], commits: int = 1) -> Iterator[None]:
    """The newest commits of some tables are not seen, neither in listings nor by their names."""
    hidden = set[str]()
    for name in tables:
        folder = table_path(store.folder, name)
        hidden |= {
            str(delta_log.commit_path(folder, v)) for v in delta_log.versions(folder)[-commits:]
        }
    names, consecutive = LocalBackend.names, LocalBackend.consecutive

    def stale_names(self: LocalBackend, folder: Path, after: str = "") -> list[str]:
        return [n for n in names(self, folder, after) if str(folder / n) not in hidden]

    def stale_consecutive(self: LocalBackend, folder: Path, name: str, first: int) -> list[int]:
        found = consecutive(self, folder, name, first)
        seen = [v for v in found if str(folder / name.format(v)) not in hidden]
        return [v for at, v in enumerate(seen) if v == first + at]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalBackend, "names", stale_names)
        patch.setattr(LocalBackend, "consecutive", stale_consecutive)
        table_state.forget()
        yield
    table_state.forget()


def commit(store: Store, writer: str, *numbers: int) -> None:
    for i in numbers:
        store.commit(small_commits.rows(writer, i, "policy"), fresh=True)


def rollouts(store: Store) -> list[str]:
    return sorted(r for (r,) in store.sql("SELECT rollout_id FROM rollouts").fetchall())


def of(writer: str, *numbers: int) -> list[str]:
    return [r for i in numbers for r in small_commits.rollout_ids(writer, i, "policy")]


def test_a_reader_with_a_stale_listing_sees_an_older_version_whole(store: Store) -> None:
    commit(store, "a", 0, 1, 2)
    with before(store, WRITTEN):
        assert rollouts(store) == sorted(of("a", 0, 1))
        for table in ("rewards", "topk"):
            alone = f"SELECT count(*) FROM {table} ANTI JOIN rollouts USING (rollout_id)"
            assert store.sql(alone).fetchall() == [(0,)]
    assert rollouts(store) == sorted(of("a", 0, 1, 2))


@pytest.mark.parametrize("commits", [1, 3])
def test_a_writer_with_a_stale_listing_replaces_nothing(store: Store, commits: int) -> None:
    commit(store, "a", 0, 1, 2)
    with before(store, WRITTEN, commits):
        commit(store, "b", 0, 1)
    assert rollouts(store) == sorted(of("a", 0, 1, 2) + of("b", 0, 1))
    for name in WRITTEN:
        assert delta_log.versions(table_path(store.folder, name)) == list(range(6)), "no gap"
    assert examine(store).healthy


def test_a_vacuum_with_a_stale_listing_loses_no_committed_file(store: Store) -> None:
    commit(store, "a", 0, 1, 2)
    with before(store, WRITTEN):
        vacuum(store, older_than_s=0)
    assert rollouts(store) == sorted(of("a", 0, 1, 2))
    assert examine(store).healthy and not (store.folder / "trash").exists()


def test_a_gap_in_a_listing_is_told_and_passes(store: Store) -> None:
    """The next commit is seen before the one that comes first."""
    commit(store, "a", 0)
    with before(store, WRITTEN):
        commit(store, "b", 0)
        table_state.forget()
        with pytest.raises(StoreError, match="lacks version 1") as caught:
            rollouts(store)
        assert "on a network disk" in caught.value.fix
    assert rollouts(store) == sorted(of("a", 0) + of("b", 0))
