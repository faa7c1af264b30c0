"""`s2d train warmup` in two processes, as `accelerate launch` starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import made_stores
from conftest import Cli


def test_two_processes_make_one_run(
    cli: Cli, questions: Path, teacher_folder: Path, student_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.make(
        tmp_path / "store",
        made_stores.read(questions),
        teacher_folder,
        role="teacher",
        n=2,
        keep_top_k=5,
    )
    where = ("--store", str(store.root))
    build = "dataset build w --query warmup --param teacher=teacher --param rows_per_update=8"
    every = "--param correct_only=false --param finished_only=false"
    assert cli(*build.split(), *every.split(), *where).code == 0
    assert cli("policies", "add", "student", student_folder, *where).code == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train = f"train warmup --dataset w --student student --output {tmp_path / 'out'}"
    launched = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cli.main", *train.split(), *where],
            env={**launched, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    updates = store.sql("SELECT update, rows FROM updates ORDER BY update").fetchall()
    assert updates == [(1, 8), (2, 8)], "recorded once, whole"
    made = store.sql(
        'SELECT p.name, q.name, p."update" FROM policies AS p '
        "JOIN policies AS q ON p.parent_policy_id = q.policy_id"
    ).fetchall()
    assert made == [("out", "student", 2)]
    assert store.sql("SELECT status FROM runs WHERE kind = 'train'").fetchall() == [("done",)]
