"""Parts of one command's work: disjoint, whole together, told apart, and any of them done again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s2d_store.errors import InputError, StoreError
from s2d_store.shards import Shard, parse_shard
from s2d_store.storage.object_path import ObjectPath
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores
from tests.support.processes import REPOSITORY, environment

SLURM = {
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_ARRAY_TASK_COUNT": "4",
    "SLURM_ARRAY_TASK_MIN": "3",
    "SLURM_ARRAY_TASK_STEP": "2",
}
COUNTS = "SELECT count(*), count(DISTINCT rollout_id) FROM rollouts"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Store:
    root = tmp_path_factory.mktemp("made") / "store"
    return made_stores.make(root, made_stores.read(questions), teacher_folder)


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


@pytest.fixture
def generate(teacher_folder: Path, store: Store) -> Callable[..., list[str]]:
    """The arguments of one command on 8 prompts."""

    def arguments(*more: object, n: int = 4) -> list[str]:
        usual = ("generate", "--policy", teacher_folder, "--role", "teacher", "-n", n)
        return [*map(str, (*usual, "--max-tokens", 6, *more, "--store", store.root))]

    return arguments


def status(store: Store, kind: str = "generate") -> list[str]:
    rows = store.sql("SELECT status FROM runs WHERE kind = $kind", {"kind": kind}).fetchall()
    return [row[0] for row in rows]


def test_every_id_is_in_one_part_of_about_equal_size() -> None:
    keys = [f"{i:016x}" for i in range(4000)]
    for count in (1, 2, 7):
        parts = [[k for k in keys if Shard(i, count).holds(k)] for i in range(count)]
        assert sorted(k for part in parts for k in part) == keys
        assert min(map(len, parts)) > 0.85 * 4000 / count


def test_parts_by_text_and_by_job_array() -> None:
    assert parse_shard("") is None
    assert parse_shard("2/8") == Shard(2, 8)
    assert parse_shard("slurm", SLURM) == Shard(2, 4)
    plain = {**SLURM, "SLURM_ARRAY_TASK_MIN": "4"}
    del plain["SLURM_ARRAY_TASK_STEP"]
    assert parse_shard("slurm", plain) == Shard(3, 4)


@pytest.mark.parametrize("text", ["8/8", "1", "-1/4", "1/0", "a/b", "0/4/5"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(InputError, match="is not i/n with i below n"):
        parse_shard(text)


def test_slurm_without_an_array() -> None:
    with pytest.raises(InputError, match="finds no job array"):
        parse_shard("slurm", {})
    with pytest.raises(InputError, match="task 13 is not one of 4"):
        parse_shard("slurm", {**SLURM, "SLURM_ARRAY_TASK_ID": "13"})


def test_processes_fill_one_store_and_a_killed_one_is_done_again_by_another_number(
    store: Store, cli: Cli, generate: Callable[..., list[str]]
) -> None:
    command = [sys.executable, "-m", "cli.main"]
    options = ("--batch-size", 1, "--chunk", 1)
    parts = [
        subprocess.Popen(
            [*command, *generate("--shard", f"{i}/3", *options, n=8)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for i in range(3)
    ]
    text = "SELECT list(rollout_id) FROM rollouts"
    victim, until = Shard(1, 3), time.monotonic() + 200
    while time.monotonic() < until:
        stored = store.sql(text).fetchall()[0][0] or []
        if any(victim.holds(key) for key in stored):
            break
        time.sleep(0.02)
    parts[1].send_signal(signal.SIGKILL)
    errors = [part.communicate(timeout=200)[1] for part in parts]
    assert (parts[0].returncode, parts[2].returncode) == (0, 0), errors
    if parts[1].returncode == -signal.SIGKILL:
        assert store.sql(COUNTS).fetchall()[0][0] < 64
        assert status(store) == ["running"], "what the killed one had is still to do"
    for part in ("0/2", "1/2"):
        done = cli(*generate("--shard", part, n=8))
        assert done.code == 0, done.err
    assert store.sql(COUNTS).fetchall() == [(64, 64)]
    assert status(store) == ["done"]
    assert cli("doctor", "--store", store.root).code == 0


def test_parts_sample_what_the_whole_samples(
    store: Store, made: Store, tmp_path: Path, cli: Cli, generate: Callable[..., list[str]]
) -> None:
    whole = made_stores.copy(made, tmp_path / "whole")
    assert cli(*generate()[:-1], whole.root).code == 0
    first = cli(*generate("--shard", "0/2"))
    assert first.code == 0, first.err
    assert status(store) == ["running"]
    assert 0 < store.sql(COUNTS).fetchall()[0][0] < 32
    assert cli(*generate("--shard", "1/2")).code == 0
    assert status(store) == ["done"]
    rows = "SELECT rollout_id, response_token_ids FROM rollouts ORDER BY rollout_id"
    assert store.sql(rows).fetchall() == whole.sql(rows).fetchall()
    again = cli(*generate("--shard", "1/2"))
    assert "0 rollouts stored" in again.out and status(store) == ["done"]


def test_score_and_verify_in_parts(
    store: Store, cli: Cli, student_folder: Path, generate: Callable[..., list[str]]
) -> None:
    assert cli(*generate()).code == 0
    score = ("score", "--teacher", student_folder, "--top-logprobs", 3, "--store", store.root)
    verify = ("verify", "--n-workers", 1, "--store", store.root)
    for kind, command, table in (("score", score, "topk"), ("verify", verify, "rewards")):
        counts = f"SELECT count(*), count(DISTINCT rollout_id) FROM {table}"
        sizes = []
        for part in ("0/3", "1/3", "2/3"):
            done = cli(*command, "--shard", part)
            assert done.code == 0, done.err
            sizes.append(store.sql(counts).fetchall()[0][0])
            assert status(store, kind) == ["done" if part == "2/3" else "running"]
        assert 0 < sizes[0] < sizes[1] < sizes[2]
        assert store.sql(counts).fetchall() == [(32, 32)]


def test_two_parts_that_could_overlap_are_told(
    store: Store, cli: Cli, generate: Callable[..., list[str]]
) -> None:
    assert cli(*generate("--limit", 1)).code == 0
    ((run,),) = store.sql("SELECT run_id FROM runs").fetchall()
    with store.run_lock(run, Shard(1, 3)):
        same = cli(*generate("--shard", "1/3"))
        assert same.code == 1 and "shard 1/3 is being worked on by another process" in same.err
        other = cli(*generate("--shard", "0/2"))
        assert other.code == 1 and "use --shard i/3" in other.err
        whole = cli(*generate())
        assert whole.code == 1 and "shard 1/3 is being worked on" in whole.err
        fine = cli(*generate("--shard", "0/3"))
        assert fine.code == 0, fine.err
    with store.run_lock(run):
        part = cli(*generate("--shard", "0/3"))
        assert part.code == 1 and f"run {run} is being worked on" in part.err
    assert cli(*generate("--shard", "0/2")).code == 0, "the others have ended"


def test_parts_on_an_object_store(bucket: ObjectPath) -> None:
    store = Store.init(bucket)

    def refused(shard: Shard | None, said: str) -> None:
        with pytest.raises(StoreError, match=said), store.run_lock("r", shard):
            raise AssertionError("it was let in")

    with store.run_lock("r", Shard(0, 2)), store.run_lock("r", Shard(1, 2)):
        refused(Shard(0, 2), "shard 0/2 is being worked on")
        refused(None, "shard 0/2 is being worked on")
    with store.run_lock("r"):
        refused(Shard(0, 3), "run r is being worked on")


def test_a_limit_of_what_is_not_graded_yet_cannot_be_shared_out(store: Store, cli: Cli) -> None:
    done = cli("verify", "--shard", "0/2", "--limit", 3, "--store", store.root)
    assert done.code == 1 and "--limit is given beside --shard" in done.err


def test_the_slurm_template_shares_a_run_out(
    store: Store, tmp_path: Path, teacher_folder: Path
) -> None:
    """As Slurm runs it, where `srun` starts the command itself."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text('#!/bin/bash\nexec "$@"\n')
    (programs / "s2d").write_text(f'#!/bin/bash\nexec "{sys.executable}" -m cli.main "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    told = {
        "S2D_STORE": str(store.root),
        "POLICY": str(teacher_folder),
        "ENGINE": "transformers",
        "MAX_TOKENS": "6",
        "TOP_LOGPROBS": "2",
        "N": "2",
        "PATH": f"{programs}:/usr/bin:/bin",
        "SLURM_ARRAY_TASK_COUNT": "2",
        "SLURM_ARRAY_TASK_MIN": "0",
    }
    script = REPOSITORY / "examples" / "slurm" / "generate.sbatch"
    for task in ("0", "1"):
        done = subprocess.run(
            ["bash", script],
            env=environment(SLURM_ARRAY_TASK_ID=task, **told),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert store.sql(COUNTS).fetchall() == [(16, 16)]
    assert status(store) == ["done"]
