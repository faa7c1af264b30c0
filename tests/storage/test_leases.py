"""Who works on an object store and still lives: processes that stop, sleep inside a commit, die."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from s2d_store.errors import StoreError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.storage import leases
from s2d_store.storage.backend import OBJECTS
from s2d_store.storage.object_path import ObjectPath
from s2d_store.store import Store
from s2d_store.tables import delta_commit, journal
from tests.support import small_commits
from tests.tables.test_concurrency import faults

pytestmark = pytest.mark.slow


@pytest.fixture
def remote(bucket: ObjectPath) -> Store:
    return Store.init(bucket)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes of other machines, whose death only a missing beat shows; all quicker."""
    monkeypatch.setattr(leases, "TTL_S", 1.5)
    monkeypatch.setattr(leases, "BEAT_S", 0.3)
    monkeypatch.setattr(leases, "TRUST_S", 0.9)
    monkeypatch.setattr(leases, "_is_gone", lambda body: False)
    yield


@pytest.mark.usefixtures("elsewhere")
def test_a_process_that_stopped_is_declared_dead_and_commits_nothing(
    remote: Store, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = leases._Session
    beats = mine._beat
    with remote.run_lock("run"):
        (name,) = [found.relative for found in OBJECTS.list_files(bucket / "sessions")]
        session = leases._mine[bucket]
        assert not _dead_to_others(bucket, name), "it beats"
        session._stop.set()  # as if the machine slept
        session._thread.join()
        assert _dead_to_others(bucket, name)
        with pytest.raises(StoreError, match="lost its hold on the store"):
            small_commits.commit(remote, "run", 0)
    monkeypatch.setattr(mine, "_beat", beats)
    assert remote.sql("SELECT count(*) FROM raw.rollouts").fetchall() == [(0,)]
    with remote.run_lock("run"):
        small_commits.commit(remote, "run", 0)
    assert faults(remote) == ([], 2)


@pytest.mark.usefixtures("elsewhere")
def test_a_process_that_stops_inside_a_commit_does_not_repeat_it(
    remote: Store, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one finishes its commit and compacts; it wakes up right before it writes."""
    small_commits.commit(remote, "run", 0)
    real = delta_commit.commit

    def asleep(folder: ObjectPath, *arguments: Any) -> bool:
        if folder.name == "topk":
            monkeypatch.setattr(delta_commit, "commit", real)
            session = leases._mine.pop(bucket)
            session._stop.set()
            session._thread.join()
            assert leases.is_dead(bucket, session.name, wait=True)
            assert journal.recover(bucket) == 1
            assert [done.files for done in compact(remote, ["topk"])] == [2]
            leases._mine[bucket] = session
        return real(folder, *arguments)

    monkeypatch.setattr(delta_commit, "commit", asleep)
    with pytest.raises(StoreError, match="lost its hold on the store"):
        remote.commit(small_commits.rows("run", 1, "policy"), fresh=True)
    assert remote.sql("SELECT count(*), count(DISTINCT rollout_id) FROM raw.topk").fetchall() == [
        (4, 4)
    ]
    assert remote.sql("SELECT count(*) FROM raw.rollouts").fetchall() == [(4,)]


@pytest.mark.usefixtures("elsewhere")
def test_a_compaction_that_sleeps_does_not_commit_what_a_vacuum_has_swept(
    remote: Store, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        small_commits.commit(remote, "run", i)
    before = remote.sql("SELECT count(*), sum(k) FROM topk").fetchall()
    real = delta_commit.commit

    def asleep(*arguments: Any) -> bool:
        monkeypatch.setattr(delta_commit, "commit", real)
        session = leases._mine.pop(bucket)
        session._stop.set()
        session._thread.join()
        assert leases.is_dead(bucket, session.name, wait=True)
        assert vacuum(remote, grace_s=-1).files >= 1
        leases._mine[bucket] = session
        return real(*arguments)

    monkeypatch.setattr(delta_commit, "commit", asleep)
    with pytest.raises(StoreError, match="lost its hold on the store"):
        list(compact(remote, ["topk"]))
    assert remote.sql("SELECT count(*), sum(k) FROM topk").fetchall() == before
    assert faults(remote) == ([], 6)


def _dead_to_others(root: ObjectPath, name: str) -> bool:
    """What another process would find: this one knows that it lives."""
    mine = leases._mine.pop(root)
    try:
        return leases.is_dead(root, name, wait=True)
    finally:
        leases._mine[root] = mine


@pytest.mark.usefixtures("elsewhere")
def test_a_beat_after_the_declaration_does_not_get_through(
    remote: Store, bucket: ObjectPath
) -> None:
    with leases.hold_lease(bucket) as name:
        path = bucket / "sessions" / name
        _, tag = path.read_tagged()
        assert path.replace(b'{"dead": true}', tag) is not None
        deadline = time.monotonic() + 10
        while leases.is_trusted(bucket):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert json.loads(path.read_text()) == {"dead": True}


def test_a_lock_of_a_process_that_died_without_a_word(remote: Store, bucket: ObjectPath) -> None:
    """Its session is gone, or was never there."""
    lock = bucket / "locks" / "run.lock"
    assert lock.create(json.dumps({"session": "nobody"}).encode()) is not None
    with remote.run_lock("run"):
        assert json.loads(lock.read_text())["session"] != "nobody"
    assert not lock.exists()


def test_one_of_many_threads_holds_a_lock(remote: Store, bucket: ObjectPath) -> None:
    inside: list[int] = []

    def work(i: int) -> None:
        for _ in range(3):
            with OBJECTS.exclusive_lock(bucket, ".test.keys", wait=True) as got:
                assert got
                inside.append(i)
                assert inside == [i]
                time.sleep(0.01)
                inside.remove(i)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
