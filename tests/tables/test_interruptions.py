"""Real processes of `s2d`, killed, stopped or out of disk: nothing stored is lost or doubled."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.engines.base import SamplingParams
from s2d_store.rollouts.generate import generate
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores
from tests.support.faulty_disks import small_disk

pytestmark = pytest.mark.slow

N = 16
TOTAL = 8 * N


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Store:
    """8 prompts, no rollouts."""
    root = tmp_path_factory.mktemp("empty") / "store"
    return made_stores.make(root, made_stores.read(questions), teacher_folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, empty: Store, teacher_folder: Path) -> Store:
    """What `generation` stores when nothing stops it, from one commit."""
    store = made_stores.copy(empty, tmp_path_factory.mktemp("whole") / "store")
    config = GenerateConfig(
        policy=str(teacher_folder),
        role="teacher",
        n=N,
        params=SamplingParams(max_tokens=8),
        top_logprobs=3,
        batch_size=8,
        chunk_rows=TOTAL,
    )
    assert generate(store, config).stored == TOTAL
    return store


def generation(store: Store, teacher: Path, *options: object, n: int = N) -> list[object]:
    """A generate command with a commit for every 8 rollouts."""
    usual = [
        "--policy",
        teacher,
        "--role",
        "teacher",
        "--n",
        n,
        "--max-tokens",
        8,
        "--top-logprobs",
        3,
    ]
    batches = ["--batch-size", 8, "--chunk", 8]
    return ["generate", *usual, *batches, *options, "--store", store.root]


def commits(store: Store, table: str) -> int:
    """Commits of a table so far, read from its log's file names."""
    return len(list((store.folder / "tables" / table / "_delta_log").glob("*.json")))


def stop_after(
    process: subprocess.Popen[str], store: Store, table: str, n_commits: int, how: signal.Signals
) -> tuple[int, str, str]:
    """Send a signal to a process and its children once `table` has `n_commits` more commits."""
    wanted, deadline = commits(store, table) + n_commits, time.monotonic() + 120
    while commits(store, table) < wanted and process.poll() is None:
        assert time.monotonic() < deadline, "no commit within two minutes"
        time.sleep(0.002)
    if process.poll() is None:
        os.killpg(process.pid, how)
    return made_stores.finish(process)


def rollouts(store: Store) -> list[tuple[Any, ...]]:
    text = (
        "SELECT rollout_id, prompt_id, sample_index, seed, response_token_ids, response_text "
        "FROM rollouts ORDER BY rollout_id"
    )
    return store.sql(text).fetchall()


def count(store: Store, view: str) -> int:
    return int(store.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0])


def status(store: Store, kind: str) -> str:
    text = "SELECT status FROM runs WHERE kind = $kind"
    ((found,),) = store.sql(text, {"kind": kind}).fetchall()
    return str(found)


def present(out: str) -> int:
    """Rollouts that a command found stored.

    At most one chunk more than were visible before it: a commit that was cut off between two
    tables is finished first.
    """
    return int(out.partition(" were stored before")[0].split()[-1])


def check_whole(store: Store, whole: Store) -> None:
    """The store holds exactly the uninterrupted run's rollouts, each with one top-k."""
    assert rollouts(store) == rollouts(whole)
    assert count(store, "raw.topk") == count(store, "policy_topk") == TOTAL
    assert status(store, "generate") == "done"


def test_a_killed_generation_continues(
    cli: Cli, empty: Store, whole: Store, teacher_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.copy(empty, tmp_path / "store")
    command = generation(store, teacher_folder)
    code, out, _ = stop_after(made_stores.s2d(*command), store, "rollouts", 2, signal.SIGKILL)
    assert (code, out) == (-signal.SIGKILL, "")
    before = rollouts(store)
    assert 16 <= len(before) < TOTAL
    assert status(store, "generate") == "running"
    done = cli(*command)
    assert done.code == 0, done.err
    assert len(before) <= present(done.out) <= len(before) + 8
    assert f"{TOTAL - present(done.out)} rollouts stored" in done.out
    check_whole(store, whole)
    assert f"{TOTAL} were stored before" in cli(*command).out


def test_ctrl_c_stores_what_is_finished_and_continues(
    cli: Cli, empty: Store, whole: Store, teacher_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.copy(empty, tmp_path / "store")
    command = generation(store, teacher_folder, "--verify", "--verify-workers", 1)
    code, out, err = stop_after(made_stores.s2d(*command), store, "rollouts", 2, signal.SIGINT)
    assert (code, out) == (130, "")
    assert "error: stopped by Ctrl-C" in err and "run the same command again to continue" in err
    assert "Traceback" not in err
    before = rollouts(store)
    assert 16 <= len(before) < TOTAL
    assert count(store, "rewards") == len(before)
    assert status(store, "generate") == "interrupted"
    assert list((store.folder / "pending").glob("*")) == []
    done = cli(*command)
    assert f"{len(before)} were stored before" in done.out
    check_whole(store, whole)
    assert count(store, "rewards") == TOTAL


def test_a_killed_verification_continues(cli: Cli, whole: Store, tmp_path: Path) -> None:
    store = made_stores.copy(whole, tmp_path / "store")
    command = ["verify", "--n-workers", 1, "--chunk", 8, "--store", store.root]
    code, _, _ = stop_after(made_stores.s2d(*command), store, "rewards", 2, signal.SIGKILL)
    assert code == -signal.SIGKILL
    graded = store.sql("SELECT rollout_id, created_at FROM rewards").fetchall()
    assert 16 <= len(graded) < TOTAL
    done = cli(*command)
    assert f"{TOTAL - len(graded)} rollouts graded" in done.out
    rows = store.sql("SELECT rollout_id, created_at FROM raw.rewards").fetchall()
    assert len(rows) == len({row[0] for row in rows}) == TOTAL
    assert set(graded) <= set(rows)
    assert status(store, "verify") == "done"
    assert "nothing left to grade" in cli(*command).out


def test_a_killed_scoring_continues(
    cli: Cli, whole: Store, student_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.copy(whole, tmp_path / "store")
    reference = made_stores.copy(whole, tmp_path / "reference")
    usual = ["score", "--scorer", student_folder, "--top-logprobs", 4]
    small = ["--chunk", 8, "--engine-arg", "max_batch_tokens=256", "--store", store.root]
    code, _, _ = stop_after(made_stores.s2d(*usual, *small), store, "topk", 2, signal.SIGKILL)
    assert code == -signal.SIGKILL
    scored = count(store, "teacher_topk WHERE k = 4")
    assert 16 <= scored < TOTAL
    done = cli(*usual, *small)
    assert f"{TOTAL - scored} rollouts scored" in done.out
    assert f"{scored} were scored before" in done.out
    assert cli(*usual, "--store", reference.root).code == 0
    text = "SELECT rollout_id, sampled_logprobs FROM teacher_topk WHERE k = 4 ORDER BY rollout_id"
    rows, expected = (s.sql(text).fetchall() for s in (store, reference))
    assert [row[0] for row in rows] == [row[0] for row in expected]
    assert len(rows) == TOTAL
    for (_, ours), (_, theirs) in zip(rows, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert "0 rollouts scored" in cli(*usual, *small).out


def test_a_full_disk_is_one_error_and_the_same_command_completes(
    cli: Cli, empty: Store, whole: Store, teacher_folder: Path, tmp_path: Path
) -> None:
    """With 128 KiB free; where nothing can be mounted, with files limited below a chunk's size."""
    disk = tmp_path / "disk"
    with small_disk(disk) as mounted:
        store, ballast = made_stores.copy(empty, disk / "store"), disk / "ballast"
        assert cli(*generation(store, teacher_folder, n=1)).code == 0
        limit = None
        if mounted:
            ballast.write_bytes(bytes(shutil.disk_usage(disk).free - (128 << 10)))
        else:
            limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (5000, 5000))
        command = generation(store, teacher_folder)
        code, out, err = made_stores.finish(made_stores.s2d(*command, preexec_fn=limit))
        assert (code, out) == (1, "")
        (error,) = [line for line in err.splitlines() if "error:" in line]
        assert "cannot write to the store" in error or "did not go through" in error
        assert "fix: free disk space" in err and "Traceback" not in err
        before = rollouts(store)
        assert (16 if mounted else 8) <= len(before) < TOTAL
        assert [row for row in rollouts(whole) if row in before] == before
        committed = {Path(f) for files in store.snapshot().files.values() for f in files}
        waiting = "".join(entry.read_text() for entry in store.folder.glob("pending/*.json"))
        loose = set(store.folder.rglob("*.parquet")) - committed
        assert all(file.name in waiting for file in loose), "no partial file stays"
        ballast.unlink(missing_ok=True)
        done = cli(*command)
        assert done.code == 0, done.err
        assert len(before) <= present(done.out) <= len(before) + 8
        check_whole(store, whole)


def test_two_runs_of_one_name_do_not_work_at_once(
    cli: Cli, empty: Store, whole: Store, teacher_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.copy(empty, tmp_path / "store")
    command = generation(store, teacher_folder)
    first = made_stores.s2d(*command)
    deadline = time.monotonic() + 120
    while not commits(store, "rollouts") > 1 and first.poll() is None:
        assert time.monotonic() < deadline, "no commit within two minutes"
        time.sleep(0.002)
    os.kill(first.pid, signal.SIGSTOP)
    second = cli(*command)
    os.kill(first.pid, signal.SIGCONT)
    assert second.code == 1
    assert "is being worked on by another process" in second.err
    code, _, err = made_stores.finish(first)
    assert code == 0, err
    check_whole(store, whole)
