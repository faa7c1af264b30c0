"""`s2d dataset` and `s2d train warmup`, from real rollouts to a registered policy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores
from tests.support.tiny_models import save_tiny_model

pytestmark = pytest.mark.slow

BUILD = ("--query", "warmup", "--param", "teacher=teacher", "--param", "rows_per_update=8")
ALL_ROWS = ("--param", "correct_only=false", "--param", "finished_only=false")
S2D = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Store:
    """32 rollouts of the teacher with its own top 5."""
    root = tmp_path_factory.mktemp("made") / "store"
    records = made_stores.read(questions)
    return made_stores.make(root, records, teacher_folder, role="teacher", n=4, top_logprobs=5)


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


@pytest.fixture
def s2d(cli: Cli, store: Store) -> S2D:
    return lambda *arguments: cli(*arguments, "--store", store.root)


@pytest.fixture
def built(s2d: S2D) -> S2D:
    """With dataset `first`: 32 rows in 4 updates."""
    assert s2d("dataset", "build", "first", *BUILD, *ALL_ROWS, "--seed", 1).code == 0
    return s2d


@pytest.fixture
def train(built: S2D, tmp_path: Path, student_folder: Path) -> S2D:
    def run(*options: object, student: object = student_folder, output: str = "run") -> Result:
        usual = ("--dataset", "first", "--student", student, "--output", tmp_path / output)
        return built("train", "warmup", *usual, "--lr", 0.003, *options)

    return run


def updates(store: Store) -> list[dict[str, Any]]:
    return store.sql("SELECT * FROM updates ORDER BY run_id, update").to_arrow_table().to_pylist()


def test_build_locks_shows_lists_verifies_and_drops(s2d: S2D, store: Store) -> None:
    done = s2d("dataset", "build", "first", *BUILD, *ALL_ROWS)
    assert done.code == 0, done.err
    tokens = store.sql("SELECT sum(response_tokens)::INT FROM rollouts").fetchall()[0][0]
    first, second = done.out.splitlines()
    fingerprint = first.rpartition("fingerprint ")[2]
    assert second.startswith("  32 rows in 4 updates, ")
    assert second.endswith(f" and {tokens} response tokens, 0 labels")
    again = s2d("dataset", "build", "first", *BUILD, *ALL_ROWS)
    assert again.out == done.out, "building the same thing again changes nothing"
    lock = json.loads(s2d("dataset", "show", "first", "--format", "json").out)["lock"]
    assert (lock["fingerprint"], lock["counts"]["rows"]) == (fingerprint, 32)
    assert lock["params"]["rows_per_update"] == 8
    listed = s2d("dataset", "list").out
    assert [line.split()[:4] for line in listed.splitlines()[1:]] == [
        ["first", "warmup", "32", "4"]
    ]
    done = s2d("dataset", "verify", "first")
    assert (done.code, done.out.count(fingerprint)) == (0, 3)
    assert done.out.endswith("dataset first matches its lock\n")
    other = s2d("dataset", "build", "first", *BUILD, *ALL_ROWS, "--seed", 2)
    assert other.code == 1
    assert "error: dataset first exists already and differs" in other.err
    assert s2d("dataset", "drop", "first").code == 0
    assert store.sql("SELECT name FROM datasets").fetchall() == [("first",)]
    done = s2d("dataset", "show", "first")
    assert done.code == 1 and "no dataset 'first' in this store" in done.err
    assert "(no rows)" in s2d("dataset", "list").out


def test_verify_finds_changed_files(built: S2D, store: Store) -> None:
    built("dataset", "build", "second", *BUILD, *ALL_ROWS, "--seed", 2, "--materialise")
    assert "in 1 parts" in built("dataset", "materialise", "first").out
    first, second = (
        store.root / "datasets" / n / "part-00000.parquet" for n in ("first", "second")
    )
    first.write_bytes(second.read_bytes())
    done = built("dataset", "verify", "first")
    assert done.code == 1
    assert done.out.endswith("dataset first does not match its lock\n")
    assert built("dataset", "verify", "second").code == 0
    second.write_bytes(b"nothing")
    done = built("dataset", "verify", "second")
    assert done.code == 1 and "error: a file of dataset second cannot be read" in done.err


def test_bad_builds_are_one_clear_error(s2d: S2D, store: Store, tmp_path: Path) -> None:
    bare = tmp_path / "bare.sql"
    bare.write_text("SELECT 1")
    headed = tmp_path / "headed.sql"
    headed.write_text(
        "-- question: q?\n-- grain: one\n-- params: none\n-- columns: a\nSELECT 1 AS a"
    )
    for options, says in (
        (("--query", "warmpu"), "no query named 'warmpu'; did you mean 'warmup'?"),
        (("--query", "warmup"), "query warmup needs parameter 'teacher'"),
        (("--query", "warmup", "--param", "teacher=nobody"), "no policy 'nobody'"),
        ((*BUILD, "--param", "finished_only=maybe"), "is not a BOOLEAN"),
        ((*BUILD,), "query warmup selects no rows"),
        (("--query", bare), "has no header"),
        (("--query", headed), "query headed lacks the columns row, update, rollout_id"),
    ):
        done = s2d("dataset", "build", "first", *options)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ") and says in done.err
    done = s2d("dataset", "build", "../first", *BUILD, *ALL_ROWS)
    assert done.code == 1 and "dataset '../first' is not a usable name" in done.err
    for command in ("show", "verify", "drop"):
        done = s2d("dataset", command, "none")
        assert done.code == 1 and "no dataset 'none' in this store" in done.err
    assert store.sql("SELECT count(*) FROM datasets").fetchall() == [(0,)]
    assert not list((store.folder / "datasets").glob("*"))


def test_warmup_registers_its_policy_and_records_every_update(
    train: S2D, store: Store, tmp_path: Path
) -> None:
    done = train("--stage", "warmup-a", "--trackers", "tensorboard")
    assert done.code == 0, done.err
    said = r"update {}/4: loss .*, lr \S+, [\d,]+ tokens/s, \d+:\d\d:\d\d left"
    assert re.search(said.format(1), done.err) and re.search(said.format(4), done.err)
    assert re.search(r"curves: tensorboard --logdir .*/trackers$", done.out, re.MULTILINE)
    rows = updates(store)
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    assert [row["rows"] for row in rows] == [8] * 4
    assert rows[-1]["loss"] < rows[0]["loss"]
    summary = f"4 updates, loss {rows[0]['loss']:.4f} -> {rows[-1]['loss']:.4f}"
    assert summary in done.out
    ((name, parent, run, update, location),) = store.sql(
        "SELECT p.name, q.name, p.run_id, p.update, p.location FROM policies AS p "
        "JOIN policies AS q ON q.policy_id = p.parent_policy_id"
    ).fetchall()
    assert (name, parent, update) == ("run", "student", 4)
    assert (store.root / location).resolve() == tmp_path / "run" / "final", "kept from the store on"
    ((stage, status, parents),) = store.sql(
        "SELECT stage, status, parents FROM runs WHERE run_id = $run", {"run": run}
    ).fetchall()
    ((dataset,),) = store.sql("SELECT dataset_id FROM datasets").fetchall()
    assert (stage, status, parents) == ("warmup-a", "done", [dataset])
    again = train("--stage", "warmup-a", "--quiet", "--checkpoint-every-updates", 9)
    assert (again.code, again.err) == (0, ""), "nothing is left to train"
    assert again.out == done.out.partition("curves:")[0]
    assert updates(store) == rows


def test_a_stopped_run_continues(train: S2D, store: Store) -> None:
    whole = train("--name", "whole", output="whole")
    assert whole.code == 0
    reference = updates(store)
    done = train("--name", "late", "--seed", 1, "--max-kl", reference[0]["kl"] / 2)
    assert done.code == 1 and done.err.startswith("error: ")
    assert "Traceback" not in done.err
    statuses = "SELECT status FROM runs WHERE kind = 'train' ORDER BY started_at"
    assert store.sql(statuses).fetchall() == [("done",), ("failed",)]
    done = train("--name", "late", "--seed", 1, "--checkpoint-every-updates", 1)
    assert done.code == 0, "limits and checkpoints may change in a continued run"
    assert store.sql(statuses).fetchall() == [("done",), ("done",)]
    assert "policy whole is " in done.out, "the same weights stay the same policy"
    late = [row for row in updates(store) if row not in reference]
    assert [row["loss"] for row in late] == pytest.approx([row["loss"] for row in reference])


def test_bad_training_is_one_clear_error(
    train: S2D, built: S2D, store: Store, student_folder: Path, tmp_path: Path
) -> None:
    swapped = save_tiny_model(tmp_path / "swapped", seed=3, vocab="swapped")
    done = train(student=swapped)
    assert (done.code, done.out) == (1, "")
    assert "student 'swapped' has another tokenizer than dataset first" in done.err
    done = train(student="nobody")
    assert done.code == 1 and "no policy 'nobody' in this store" in done.err
    for options, says in (
        (("--dataset", "none"), "no dataset 'none' in this store"),
        (("--lr", -1), "lr is -1.0"),
        (("--name", "student"), "policy name 'student' is taken"),
        (("--tail", "half"), "tail is 'half'"),
        (("--precision", "fp8"), "precision is 'fp8'"),
        (("--lr-schedule", "up"), "lr_schedule is 'up'"),
    ):
        done = train(*options)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ") and says in done.err
    assert updates(store) == [] and not (tmp_path / "run" / "final").exists()
