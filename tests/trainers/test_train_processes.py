"""`s2d train warmup` in two processes, as `accelerate launch` starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.support import made_stores
from tests.support.processes import run_together

pytestmark = pytest.mark.slow


def test_two_processes_make_one_run(
    cli: Cli, questions: Path, teacher_folder: Path, student_folder: Path, tmp_path: Path
) -> None:
    store = made_stores.make(
        tmp_path / "store",
        made_stores.read(questions),
        teacher_folder,
        role="teacher",
        n=2,
        top_logprobs=5,
    )
    where = ("--store", str(store.root))
    build = "dataset build w --query warmup --param teacher=teacher --param rows_per_update=8"
    every = "--param correct_only=false --param finished_only=false"
    assert cli(*build.split(), *every.split(), *where).code == 0
    assert cli("policies", "add", "student", student_folder, *where).code == 0
    train = f"train warmup --dataset w --student student --output {tmp_path / 'out'}"
    run_together(["-m", "cli.main", *train.split(), *where])
    updates = store.sql("SELECT update, rows FROM updates ORDER BY update").fetchall()
    assert updates == [(1, 8), (2, 8)], "recorded once, whole"
    made = store.sql(
        'SELECT p.name, q.name, p."update" FROM policies AS p '
        "JOIN policies AS q ON p.parent_policy_id = q.policy_id"
    ).fetchall()
    assert made == [("out", "student", 2)]
    assert store.sql("SELECT status FROM runs WHERE kind = 'train'").fetchall() == [("done",)]
