"""Many writers, a compaction and readers at once: every row once, every snapshot whole."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from s2d_store.maintenance.compact import compact
from s2d_store.sql import connection
from s2d_store.store import Store
from s2d_store.tables import table_state
from s2d_store.tables.table_state import TableState
from tests.support import small_commits, synthetic

pytestmark = pytest.mark.slow

WRITERS = 8
COMMITS = 3
# Each must give no row, whatever is committed while it is read.
FAULTS = {
    "a commit's rollouts are there in part": """
        SELECT run_id, round FROM rollouts GROUP BY ALL HAVING count(*) <> 2""",
    "a rollout lacks its reward": "FROM rollouts ANTI JOIN rewards USING (rollout_id)",
    "a rollout lacks its top-k": "FROM rollouts ANTI JOIN topk USING (rollout_id)",
    "a rollout lacks its policy": "FROM rollouts ANTI JOIN policies USING (policy_id)",
    "a rollout stands twice": "SELECT rollout_id FROM rollouts GROUP BY 1 HAVING count(*) > 1",
    "a reward stands twice": "SELECT rollout_id FROM rewards GROUP BY 1 HAVING count(*) > 1",
    "a top-k stands twice": "SELECT rollout_id FROM topk GROUP BY 1 HAVING count(*) > 1",
    "a policy stands twice": "SELECT policy_id FROM policies GROUP BY 1 HAVING count(*) > 1",
}


def write(root: Path, writer: str) -> None:
    store = Store.open(root)
    for i in range(COMMITS):
        small_commits.commit(store, writer, i)


def compact_until(root: Path, stop: Event, replaced: Synchronized[int]) -> None:
    store = Store.open(root)
    while not stop.wait(0.5):
        replaced.value += sum(table.files for table in compact(store))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have imported everything, and started nothing, before they fork."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_concurrency"])
    return context


def faults(store: Store) -> tuple[list[str], int]:
    """What one snapshot shows that it must not, and its rollouts."""
    con = connection.connect_raw(store.root, store.snapshot().files)
    con.execute("USE raw")
    found = [fault for fault, text in FAULTS.items() if con.sql(text).fetchall()]
    return found, con.sql("SELECT count(*) FROM rollouts").fetchall()[0][0]


def test_writers_a_compaction_and_readers_at_once(
    store: Store, processes: ForkServerContext
) -> None:
    stop, replaced = processes.Event(), processes.Value("q", 0)
    compactor = processes.Process(target=compact_until, args=(store.root, stop, replaced))
    writers = [processes.Process(target=write, args=(store.root, f"w{i}")) for i in range(WRITERS)]
    seen = [0]
    try:
        for process in (compactor, *writers):
            process.start()
        while any(writer.is_alive() for writer in writers):
            found, rollouts = faults(store)
            assert found == []
            assert rollouts >= seen[-1], "rows never go"
            seen.append(rollouts)
            time.sleep(0.2)
        stop.set()
        compactor.join(120)
    finally:
        for process in (compactor, *writers):
            if process.is_alive():
                process.kill()
            process.join()
    assert [process.exitcode for process in (compactor, *writers)] == [0] * (1 + WRITERS)
    assert faults(store) == ([], 2 * WRITERS * COMMITS)
    assert len(set(seen)) > 2, "read while they wrote"
    assert replaced.value > 0, "compacted while they wrote"
    assert store.sql("SELECT count(*) FROM policies").fetchall() == [(COMMITS,)]
    list(compact(store))
    assert faults(store) == ([], 2 * WRITERS * COMMITS)
    assert list((store.folder / "pending").iterdir()) == []


def test_a_snapshot_shows_nothing_without_its_origin(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two tables that a reader opens, somebody adds a prompt, a policy and a commit
    that refers to both."""
    real = table_state.newest
    n = 0

    def busy(folder: Path) -> TableState:
        nonlocal n
        monkeypatch.setattr(table_state, "newest", real)
        n += 1
        policy, prompt = synthetic.policy(f"p{n}"), synthetic.PROMPT | {"prompt_id": f"prompt-{n}"}
        store.commit({"prompts": synthetic.table("prompts", [prompt])})
        store.commit({"policies": synthetic.table("policies", [policy])})
        store.commit(small_commits.rows("run", n, policy["policy_id"], prompt["prompt_id"]))
        monkeypatch.setattr(table_state, "newest", busy)
        return real(folder)

    monkeypatch.setattr(table_state, "newest", busy)
    snap = store.snapshot()
    monkeypatch.undo()
    assert n == len(snap.versions)
    con = store.connect(snap.versions)
    assert con.sql("SELECT count(*) FROM rollouts").fetchall()[0][0] > 0
    for fault, text in FAULTS.items():
        assert con.sql(text).fetchall() == [], fault
    assert con.sql("FROM rollouts ANTI JOIN prompts USING (prompt_id)").fetchall() == []


def test_an_entry_that_goes_while_it_is_looked_at_is_no_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer finishes between the listing and the opening."""
    real = Path.glob

    def late(self: Path, pattern: str) -> Any:
        found = list(real(self, pattern))
        return [*found, self / "gone.json"] if self.name == "pending" else found

    monkeypatch.setattr(Path, "glob", late)
    made = synthetic.table("policies", [synthetic.policy("a")])
    assert store.commit({"policies": made}) == {"policies": 1}
