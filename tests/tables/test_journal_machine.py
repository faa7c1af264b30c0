"""Any order of commits, kills at any step, recoveries, compactions, checkpoints and vacuums: every
row that was said to be stored is there once, and every snapshot is closed under its references.

A kill is what it is for a process: nothing after it runs. The store's folder is copied at the step
at which the process dies, and the copy takes its place, so no cleaning up on the way out counts.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.sql import connection
from s2d_store.storage import fault_points
from s2d_store.store import Store
from s2d_store.tables import delta_commit, journal, table_state
from s2d_store.tables.snapshot import table_path
from tests.support import small_commits, synthetic
from tests.tables.test_concurrency import FAULTS

pytestmark = pytest.mark.slow

STEPS = 24


class Killed(BaseException):
    """The process is gone."""


class Journal(RuleBasedStateMachine):
    """One store, and what it was told to hold.

    Attributes:
        stored: commits that were said to be stored.
        maybe: commits that a kill cut off: they are there as a whole, or not at all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="s2d-machine-"))
        self.stored: set[int] = set()
        self.maybe: set[int] = set()
        self.next = 0

    def teardown(self) -> None:
        table_state.forget_folders([table_path(self.store.root, n) for n in self.tables])
        shutil.rmtree(self.folder)

    @initialize()
    def start(self) -> None:
        self.store = Store.init(self.folder / "store")
        self.tables = tuple(self.store.snapshot().versions)
        self.store.commit({"policies": synthetic.table("policies", [synthetic.policy("p")])})
        self.policy = self.store.sql("SELECT policy_id FROM policies").fetchall()[0][0]

    def commit(self, number: int, fresh: bool = True) -> None:
        self.store.commit(small_commits.rows("w", number, self.policy), fresh=fresh)

    def killed(self, step: int, work: Callable[[], object]) -> bool:
        """Do some work in a process that dies at a step; False where it ended before."""
        copy = self.folder / "copy"
        left = step

        def watch(point: str) -> None:
            nonlocal left
            if left == 0:
                shutil.copytree(self.store.folder, copy)
                left = -1
                raise Killed(point)
            left -= 1

        try:
            with fault_points.watched(watch):
                work()
        except Killed:
            shutil.rmtree(self.store.folder)
            copy.rename(self.store.folder)
            self.as_new_process()
            return True
        return False

    def as_new_process(self) -> None:
        table_state.forget_folders([table_path(self.store.root, n) for n in self.tables])

    @rule(fresh=st.booleans())
    def a_commit(self, fresh: bool) -> None:
        number, self.next = self.next, self.next + 1
        self.commit(number, fresh)
        self.stored.add(number)
        self.settle()

    @rule(step=st.integers(0, STEPS))
    def a_commit_that_is_killed(self, step: int) -> None:
        number, self.next = self.next, self.next + 1
        if self.killed(step, lambda: self.commit(number)):
            self.maybe.add(number)
        else:
            self.stored.add(number)
            self.settle()

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def a_commit_again(self, data: st.DataObject) -> None:
        """What is stored already adds nothing."""
        number = data.draw(st.sampled_from(sorted(self.stored)))
        rows = small_commits.rows("w", number, self.policy)
        assert set(self.store.commit(rows).values()) == {0}
        self.settle()

    @rule()
    def a_recovery(self) -> None:
        journal.recover(self.store.root)
        self.settle()

    @rule(step=st.integers(0, STEPS))
    def a_recovery_that_is_killed(self, step: int) -> None:
        if not self.killed(step, lambda: journal.recover(self.store.root)):
            self.settle()

    @rule()
    def a_compaction(self) -> None:
        list(compact(self.store))
        self.settle()

    @rule(step=st.integers(0, STEPS))
    def a_compaction_that_is_killed(self, step: int) -> None:
        if not self.killed(step, lambda: list(compact(self.store, ["rollouts", "topk"]))):
            self.settle()

    @rule(table=st.sampled_from(["rollouts", "rewards", "topk"]), step=st.integers(0, 8))
    def a_checkpoint_that_is_killed(self, table: str, step: int) -> None:
        self.killed(step, lambda: delta_commit.checkpoint(table_path(self.store.root, table)))

    @rule(older=st.sampled_from([None, -1.0]))
    def a_vacuum(self, older: float | None) -> None:
        vacuum(self.store, grace_s=-1, older_than_s=older)
        self.settle()

    @rule(step=st.integers(0, STEPS), older=st.sampled_from([None, -1.0]))
    def a_vacuum_that_is_killed(self, step: int, older: float | None) -> None:
        if not self.killed(step, lambda: vacuum(self.store, grace_s=-1, older_than_s=older)):
            self.settle()

    @rule()
    def another_process(self) -> None:
        self.as_new_process()

    def settle(self) -> None:
        """Dead writers' commits are finished: each is there as a whole, or was never begun."""
        assert journal.pending(self.store.root) == []
        there = self.rounds("rollouts")
        assert self.maybe | self.stored >= there >= self.stored
        for table in ("rewards", "topk"):
            assert self.rounds_of(table) == there, table
        self.stored, self.maybe = there, set()

    def rounds(self, table: str) -> set[int]:
        found = self.store.sql(f"SELECT DISTINCT round FROM raw.{table}").fetchall()
        return {row[0] for row in found}

    def rounds_of(self, table: str) -> set[int]:
        text = f"SELECT DISTINCT round FROM raw.rollouts SEMI JOIN raw.{table} USING (rollout_id)"
        return {row[0] for row in self.store.sql(text).fetchall()}

    @invariant()
    def rows_stand_once_and_hang_on_something(self) -> None:
        if not hasattr(self, "store"):
            return
        con = connection.connect_raw(self.store.root, self.store.snapshot().files)
        con.execute("USE raw")
        for fault, text in FAULTS.items():
            assert con.sql(text).fetchall() == [], fault
        rounds = {row[0] for row in con.sql("SELECT round FROM rollouts").fetchall()}
        assert rounds >= self.stored, "what was said to be stored is there"

    @invariant()
    def other_readers_see_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        for name in ("rollouts", "topk"):
            folder = table_path(self.store.root, name)
            state = table_state.read(folder)
            assert DeltaTable(folder).version() == state.version
            assert len(DeltaTable(folder).file_uris()) == len(state.files)


class ThenExamined(Journal):
    """The same, and at the end the doctor finds nothing after a vacuum."""

    def teardown(self) -> None:
        if hasattr(self, "store"):
            vacuum(self.store, grace_s=-1)
            self.settle()
            assert examine(self.store).faults == ()
            assert examine(self.store).healthy
        super().teardown()


TestJournal = ThenExamined.TestCase
TestJournal.settings = settings(
    max_examples=8,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
