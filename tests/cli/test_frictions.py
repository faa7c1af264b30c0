"""What users stumbled over, once each: a note, a figure or an error where there was nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.progress import ProgressBars
from s2d_store.errors import did_you_mean
from s2d_store.rollouts.progress import Progress
from s2d_store.runs import invocation
from s2d_store.runs.record import record_run
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import synthetic
from tests.support.tiny_models import save_tiny_model


def test_generate_says_what_it_loads_and_how_it_went(
    cli: Cli, store: Store, questions: Path, teacher_folder: Path
) -> None:
    at = ("--store", store.root)
    assert cli("prompts", "add", questions, *at).code == 0
    done = cli(
        "generate", "--policy", teacher_folder, "--role", "teacher", "--max-tokens", 2, "-n", 2, *at
    )
    assert done.code == 0, done.err
    assert re.search(
        r"generate: loading teacher \([\d,]+ parameters, transformers engine", done.err
    )
    rows = store.sql("SELECT response_tokens, finish_reason, run_id FROM rollouts").fetchall()
    mean = sum(row[0] for row in rows) / len(rows)
    cut = sum(row[1] == "length" for row in rows)
    assert f"  mean length {mean:.1f} tokens, {cut} cut off at 2 ({cut / 16:.1%}), in " in done.out
    assert ("many are cut off: --max-tokens 4" in done.out) == (cut > 1.6)
    assert done.out.splitlines()[-1] == f"next: s2d verify --where \"run_id = '{rows[0][2]}'\""


def test_prompts_without_gold_answers_are_named(
    cli: Cli, store: Store, questions: Path, teacher_folder: Path
) -> None:
    at = ("--store", store.root)
    cli("prompts", "add", questions, "--answer-field", "none", *at)
    usual = ("--policy", teacher_folder, "--role", "teacher", "--max-tokens", 2, "--limit", 2)
    done = cli("generate", *usual, "--verify", *at)
    assert done.code == 0 and "none was graded: their prompts have no gold answer" in done.out
    done = cli("verify", *at)
    assert done.code == 1 and "none of their prompts has an answer" in done.err


def test_using_sample_with_where_is_pointed_out(cli: Cli, store: Store) -> None:
    synthetic.fill(store)
    at = ("--store", store.root)
    text = "SELECT rollout_id FROM rollouts WHERE sample_index = 0 USING SAMPLE 5"
    done = cli("query", text, *at)
    assert done.code == 0 and "USING SAMPLE draws before WHERE filters" in done.err
    assert cli("query", "FROM rollouts USING SAMPLE 5", *at).err == ""


def test_policies_add_says_that_it_changed_nothing(
    cli: Cli, store: Store, tmp_path: Path, teacher_folder: Path
) -> None:
    at = ("--store", store.root)
    first = cli("policies", "add", "one", teacher_folder, *at)
    assert "registered before" not in first.out
    again = cli("policies", "add", "one", teacher_folder, *at)
    assert "it was registered before; its files are taken from" in again.out
    assert "policies move" not in again.out
    copy = save_tiny_model(tmp_path / "copy", seed=1, layers=2)
    other = cli("policies", "add", "one", copy, *at)
    assert f"s2d policies move one {copy} takes them from there" in other.out


def test_training_by_hand_stays_out_of_a_recipes_books(store: Store) -> None:
    from cli.recipes.train_from_store import _stage_by_hand

    with record_run(store, "a", "train", {}, stage="warmup"):
        pass
    assert _stage_by_hand(store, "warmup") == "warmup", "no recipe has it"
    with (
        invocation.invoked(recipe="mine"),
        record_run(store, "b", "train", {}, stage="warmup"),
    ):
        pass
    assert _stage_by_hand(store, "warmup") == "warmup-by-hand"
    assert _stage_by_hand(store, "opd") == "opd"


@pytest.mark.parametrize(("ks", "said"), [((3, 5), True), ((5, 5), False)])
def test_a_dataset_of_two_sizes_of_topk_says_so(
    cli: Cli, store: Store, ks: tuple[int, int], said: bool
) -> None:
    for number, k in enumerate(ks):
        synthetic.fill(store, k=k, run=f"gen-{number}")
    options = ("--query", "warmup", "-p", "teacher=teacher", "-p", "rows_per_update=8")
    at = ("--store", store.root)
    done = cli("dataset", "build", "w", *options, *at)
    assert done.code == 0, done.err
    told = "dataset w mixes top-k of several sizes (k = 3: 12 rows, k = 5: 12 rows)"
    assert (told in done.err) == said, done.err
    done = cli("dataset", "build", "z", *options, "-p", "k=0", *at)
    assert (
        done.code == 1 and "k='0' of query warmup is not a whole number of at least 1" in done.err
    )


def test_the_fix_of_an_sql_error_fits_it(cli: Cli, store: Store) -> None:
    at = ("--store", store.root)
    assert "fix" not in cli("query", "SELECT policyy FROM rollouts", *at).err, "DuckDB says which"
    assert "SHOW TABLES" in cli("query", "FROM rolouts", *at).err
    assert "fix" not in cli("query", "SELEC 1", *at).err


def test_an_unknown_dataset_names_the_nearest_and_not_hundreds(cli: Cli, store: Store) -> None:
    for number in range(30):
        folder = store.folder / "datasets" / f"bridge.r{number:03}"
        folder.mkdir(parents=True)
        (folder / "lock.json").write_text("{}")
    done = cli("dataset", "show", "bridge.r0001", "--store", store.root)
    assert done.code == 1 and "did you mean 'bridge.r001'" in done.err
    assert "the last of 30 built: bridge.r022," in done.err and "bridge.r000," not in done.err


def test_a_query_file_with_half_a_header_is_no_traceback(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "mine.sql"
    file.write_text("-- question: which?\n-- grain: one row per rollout\nSELECT 1\n")
    for command in (("query", file), ("dataset", "build", "mine", "--query", file)):
        done = cli(*command, "--store", store.root)
        assert done.code == 1 and "its header lacks '-- columns: ...'" in done.err
        assert "fix: docs/own-sql.md" in done.err


def test_a_name_without_its_recipe_is_near_the_whole_name() -> None:
    names = ["paper.warmup", "paper.bridge.r000", "student"]
    assert did_you_mean("warmpu", names) == "; did you mean 'paper.warmup'?"
    assert did_you_mean("bridge.r000", names) == "; did you mean 'paper.bridge.r000'?"
    assert did_you_mean("zzz", names) == ""


def test_other_code_prints_a_finished_recipe_anew() -> None:
    from cli.recipes.finished import _code

    seen = {Path(name).as_posix() for name, _, _ in _code()}
    for part in ("cli/run.py", "queries/budgets/lineage.sql", "viewer/templates/report.html"):
        assert any(name.endswith(part) for name in seen)


def test_a_recipe_announces_the_first_model_that_it_loads_and_slow_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr("cli.progress.time.monotonic", lambda: clock)
    bars = ProgressBars(quiet=False)
    for step, seconds in enumerate((2.0, 3.0, 12.0, 15.0, 0.5, 0.5)):
        with bars(f"r{step}") as show:
            show(Progress(1, doing="loading"))
            clock += seconds
            show(Progress(1))
    assert capsys.readouterr().err.splitlines() == [
        *("r0: loading", "r0: loaded in 2.0 s"),
        "r2: loaded in 12.0 s",
        *("r3: loading", "r3: loaded in 15.0 s"),
        "r4: loading",
    ]
