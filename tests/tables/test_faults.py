"""Kills at random points, a full disk under a trainer, a read-only store, a clock that jumps."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import queries
from s2d_store.datasets.build import build
from s2d_store.errors import TrainingError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.runs import record
from s2d_store.store import Store
from s2d_store.tables import table_state
from tests.conftest import Cli
from tests.support import made_stores, small_commits, synthetic
from tests.support.faulty_disks import can_mount_read_only, read_only, small_disk
from tests.support.locked_datasets import bigram_rows, write_locked

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHORT = ("generate", "dataset build", "compact")


def test_killed_at_random_points_nothing_is_lost_doubled_or_different() -> None:
    """A small run of benchmarks/faults.py, which says what it checks."""
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", "3", "--seed", "5"]
    command += ["--commands", *SHORT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *rows, total = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    kills = {row.split(" | ")[0].strip("| "): int(row.split(" | ")[1]) for row in rows}
    assert kills.keys() == set(SHORT)
    assert sum(kills.values()) == int(total.split(" | ")[1]) >= 3


@pytest.fixture
def locked(store: Store) -> Store:
    """Rows of every kind and dataset `w`, without a model."""
    synthetic.fill(store, n_prompts=6, n=4, k=5)
    given = {"teacher": "teacher", "rows_per_update": "4"}
    build(store, "w", queries.catalog()["warmup"], given)
    return store


_EVERY_COMMAND = """
import json, sys
from cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["s2d", *arguments]
    print("ran", arguments[0], arguments[1], file=sys.stderr)
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    print("exit", code, file=sys.stderr)
"""


def test_a_read_only_store_is_read_and_refuses_to_be_written(
    locked: Store, questions: Path, tmp_path: Path
) -> None:
    if not can_mount_read_only(tmp_path):
        pytest.skip("unshare -rm cannot mount here, and permissions do not hold root back")
    store = ("--store", str(locked.root))
    reading = [
        ("query", "pass_rate", *store),
        ("info", *store),
        ("doctor", *store),
        ("dataset", "verify", "w", *store),
        ("dataset", "export", "w", "-o", str(tmp_path / "w.parquet"), *store),
        ("vacuum", "--dry-run", *store),
        ("compact", "--dry-run", *store),
    ]
    writing = [
        ("prompts", "add", str(questions), "--source", "more", *store),
        ("verify", "--n-workers", "1", *store),
        ("dataset", "build", "v", "--query", "warmup", "-p", "teacher=teacher", *store),
        ("dataset", "restore", "w", *store),
        ("dataset", "drop", "w", *store),
        ("vacuum", *store),
    ]
    command = read_only(
        locked.folder, sys.executable, "-c", _EVERY_COMMAND, json.dumps([*reading, *writing])
    )
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    found = re.findall(r"ran (\S+) \S+\n(.*?)exit (\d+)\n", done.stderr, re.DOTALL)
    assert len(found) == len(reading) + len(writing), done.stderr
    for name, err, code in found[: len(reading)]:
        assert code == "0", (name, err)
    for name, err, code in found[len(reading) :]:
        assert code == "1" and "Traceback" not in err, (name, err)
        (error,) = [line for line in err.splitlines() if "error:" in line]
        assert "cannot write to the store" in error, (name, err)
        assert "Read-only file system" in err, (name, err)


def test_a_full_disk_stops_training_and_the_same_command_completes(
    tmp_path: Path, student_folder: Path
) -> None:
    from trainers.config import SFTConfig
    from trainers.sft import train_sft

    made_stores.one_thread()
    dataset = write_locked(tmp_path / "s", bigram_rows([1, 1, 2, 2, 3, 3, 4, 4]), kind="sft")
    usual: dict[str, Any] = {"dataset": str(dataset), "student": str(student_folder), "lr": 1e-3}
    disk = tmp_path / "disk"
    with small_disk(disk) as mounted:
        if not mounted:
            pytest.skip("nothing can be mounted here")
        config = SFTConfig(output=str(disk / "model"), checkpoint_every_updates=1, **usual)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - (250 << 10)))
        with pytest.raises(TrainingError) as error:
            train_sft(config)
        assert f"cannot write to {disk / 'model'}: " in str(error.value)
        assert "fix: free disk space" in str(error.value)
        (whole,) = disk.glob("model/checkpoint-*")
        assert (whole / "state.json").exists()
        ballast.unlink()
        assert train_sft(config).resumed_update == 1
        weights = (disk / "model" / "final" / "model.safetensors").read_bytes()
    train_sft(SFTConfig(output=str(tmp_path / "whole"), **usual))
    assert (tmp_path / "whole" / "final" / "model.safetensors").read_bytes() == weights


class Clock:
    """`datetime` whose clock goes back an hour whenever it is read."""

    moment = datetime.now(UTC) + timedelta(days=1)

    @classmethod
    def now(cls, zone: object) -> datetime:
        cls.moment -= timedelta(hours=1)
        return cls.moment


def test_a_run_ends_as_it_ended_whatever_the_clock_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status() -> str:
        return str(store.sql("SELECT status FROM runs WHERE run_id = 'r'").fetchall()[0][0])

    monkeypatch.setattr(record, "datetime", Clock)
    with record.record_run(store, "r", "generate", {}):
        assert status() == "running"
    assert status() == "done"
    with pytest.raises(KeyboardInterrupt), record.record_run(store, "r", "generate", {}):
        assert status() == "running", "taken up again"
        raise KeyboardInterrupt
    assert status() == "interrupted"


def test_writers_with_clocks_years_apart_lose_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As machines that share a folder over a network have them: each commit looks older."""
    for i, year in enumerate((2090, 1999, 2050, 1980)):
        moment = datetime(year, 1, 1, tzinfo=UTC).timestamp()
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        store.commit(small_commits.rows(f"w{i % 2}", i, "p"), fresh=True)
        versions = store.snapshot().versions
    monkeypatch.undo()
    rows = "SELECT round, count(*) FROM rollouts GROUP BY 1 ORDER BY 1"
    whole = [(i, 2) for i in range(4)]
    assert store.sql(rows).fetchall() == store.sql(rows, as_of=versions).fetchall() == whole
    list(compact(store))
    vacuum(store, older_than_s=-1)
    table_state.forget()
    assert Store.open(store.root).sql(rows).fetchall() == whole
    assert [fault for fault in examine(store).faults if "policy" not in fault] == []


def test_a_jump_of_the_clock_does_not_make_a_live_writers_file_old(locked: Store) -> None:
    folder = Path(locked.snapshot().files["rollouts"][0]).parent
    file = folder / "of-this-minute.parquet"
    file.write_bytes(b"not committed yet")
    hour_ago = time.time() - 7200
    os.utime(file, (hour_ago, hour_ago))
    with locked.backend.register_writer(locked.root):
        swept = vacuum(locked)
        assert swept.busy and swept.files == 0 and file.exists()
    swept = vacuum(locked)
    assert not swept.busy and swept.files == 1 and not file.exists()


def test_two_deadlines_do_not_grade_at_once(cli: Cli, locked: Store) -> None:
    """They are two runs, whose verdicts would have the same keys."""
    assert cli("verify", "--n-workers", 1, "--store", locked.root).code == 0
    (lock,) = locked.folder.glob("locks/.verify-*")
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = cli("verify", "--deadline", 6, "--n-workers", 1, "--store", locked.root)
    assert done.code == 1
    assert re.search(r"verifier math-verify \S+ is grading in another process", done.err)


def test_one_process_trains_into_a_folder(tmp_path: Path) -> None:
    from trainers.atomic_files import lock_folder

    busy = pytest.raises(TrainingError, match="another process is training into")
    with lock_folder(tmp_path), busy, lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass
