"""Power is cut within a write: what was said to be stored is there, whole and once.

A cut stands before the first step of each kind; S2D_EVERY_CUT=1 cuts before every step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

import queries
from s2d_store.datasets.build import build, verify
from s2d_store.datasets.lock_file import list_built
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.store import Store
from s2d_store.tables import journal, table_state
from s2d_store.tables.manifest import MANIFEST
from tests.support import small_commits, synthetic
from tests.support.power_cut import Cut, every_cut

pytestmark = pytest.mark.slow

EVERY = "S2D_EVERY_CUT" in os.environ
PER_COMMIT = len(small_commits.ROLES)


@pytest.fixture
def policy(store: Store) -> str:
    store.commit({"policies": synthetic.table("policies", [synthetic.policy("p")])})
    ((policy_id,),) = store.sql("SELECT policy_id FROM policies").fetchall()
    return str(policy_id)


def at_every_cut(
    root: Path,
    scratch: Path,
    work: Sequence[Callable[[], object]],
    look: Callable[[Cut], None],
) -> int:
    """Look at what each cut leaves, as a new process; returns how many there were."""
    found = every_cut(root, scratch, work, by_kind=not EVERY)
    for cut in found:
        table_state.forget()
        try:
            look(cut)
        except Exception as error:
            raise AssertionError(f"power cut before {cut.step}: {cut.folder}") from error
    return len(found)


def commits_in(store: Store) -> dict[int, int]:
    """Rollouts by the number of their commit."""
    return dict(store.sql("SELECT round, count(*) FROM rollouts GROUP BY 1").fetchall())


def is_whole(store: Store) -> None:
    """Commits are there entirely, once, and nothing is damaged."""
    assert set(commits_in(store).values()) <= {PER_COMMIT}, "part of a commit, or a row twice"
    for table in ("rewards", "topk"):
        assert store.sql(
            f"SELECT count(*) FROM {table} ANTI JOIN rollouts USING (rollout_id)"
        ).fetchall() == [(0,)]
    report = examine(store)
    # delta-rs does not flush the checkpoint that s2d makes anew: readers pass a torn one over.
    faults = [fault for fault in report.faults if "checkpoint" not in fault]
    assert not report.damages and not faults, (report.damages, faults)


def test_a_commit_lasts_once_it_returned(store: Store, policy: str, tmp_path: Path) -> None:
    rows = [small_commits.rows(f"run-{i}", i, policy) for i in range(2)]

    def look(cut: Cut) -> None:
        found = Store.open(cut.folder)
        journal.recover(found.root)
        is_whole(found)
        there = set(commits_in(found))
        assert set(range(cut.returned)) <= there <= set(range(cut.returned + 1))
        for one in rows:
            found.commit(one)
        assert set(commits_in(found)) == set(range(len(rows)))

    work = [partial(store.commit, one, fresh=True) for one in rows]
    assert at_every_cut(Path(str(store.root)), tmp_path / "cuts", work, look) >= 8


def test_a_new_store_is_there_once_it_was_made(tmp_path: Path) -> None:
    root = tmp_path / "disk" / "store"

    def look(cut: Cut) -> None:
        assert cut.returned == 0 or (cut.folder / MANIFEST).exists()
        made = Store.init(cut.folder)
        assert examine(made).healthy

    assert at_every_cut(root, tmp_path / "cuts", [partial(Store.init, root)], look) > 4


def test_compaction_and_vacuum_lose_no_row(store: Store, policy: str, tmp_path: Path) -> None:
    for i in range(4):
        store.commit(small_commits.rows("run", i, policy), fresh=True)

    def look(cut: Cut) -> None:
        found = Store.open(cut.folder)
        is_whole(found)
        assert set(commits_in(found)) == set(range(4))
        list(compact(found))
        vacuum(found, older_than_s=-1)
        assert set(commits_in(found)) == set(range(4))

    work = [lambda: list(compact(store)), lambda: vacuum(store, older_than_s=-1)]
    assert at_every_cut(Path(str(store.root)), tmp_path / "cuts", work, look) >= 8


@pytest.mark.parametrize("copy_rows", [False, True])
def test_a_locked_dataset_lasts(store: Store, tmp_path: Path, copy_rows: bool) -> None:
    synthetic.fill(store, n_prompts=4, n=2, k=3, run="run-0", seed=0)
    given = {"teacher": "teacher", "rows_per_update": "4"}
    lock = partial(build, name="w", query=queries.catalog()["warmup"], given=given)

    def look(cut: Cut) -> None:
        found = Store.open(cut.folder)
        assert cut.returned == 0 or list_built(found) == ["w"]
        lock(found, copy_rows=copy_rows)
        assert verify(found, "w").matches
        assert examine(found).healthy

    work = [partial(lock, store, copy_rows=copy_rows)]
    assert at_every_cut(Path(str(store.root)), tmp_path / "cuts", work, look) > 3
