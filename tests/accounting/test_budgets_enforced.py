"""Budgets in the real drivers: refused before the start, stopped at the limit, nothing lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import queries
from s2d_store.accounting import guard
from s2d_store.accounting.budget_file import Budget, Limit
from s2d_store.accounting.guard import Guard, PlannedSpend
from s2d_store.datasets.build import build
from s2d_store.errors import BudgetError
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores, spending

pytestmark = pytest.mark.slow

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Store:
    """8 labelled prompts and 16 rollouts of the teacher with its own top 4, of stage warmup."""
    root = tmp_path_factory.mktemp("made") / "store"
    records = made_stores.read(questions)
    settings: dict[str, Any] = {"role": "teacher", "n": 2, "top_logprobs": 4, "stage": "warmup"}
    return made_stores.make(root, records, teacher_folder, **settings)


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


@pytest.fixture
def generate(cli: Cli, tmp_path: Path, student_folder: Path) -> Run:
    """`s2d generate` as the student on the 8 prompts, in stage opd, at most 8 tokens each."""

    def run(*options: object) -> Result:
        usual: tuple[object, ...] = (
            "--policy",
            student_folder,
            "--role",
            "student",
            "--stage",
            "opd",
        )
        usual += ("--max-tokens", 8, "--run", "gen", "--batch-size", 2)
        return cli("generate", *usual, *options, "--store", tmp_path / "store")

    return run


@pytest.fixture
def registered(store: Store, cli: Cli, student_folder: Path) -> Store:
    assert cli("policies", "add", "student", student_folder, "--store", store.root).code == 0
    return store


def declare(store: Store, text: str) -> None:
    (store.root / "budget.toml").write_text(text)


def contents(store: Store) -> dict[str, int]:
    """The version of every table: what a refusal must leave alone."""
    return dict(store.snapshot().versions)


def total(store: Store, what: str, where: str = "true") -> int:
    rows = store.sql(f"SELECT coalesce(sum({what}), 0)::BIGINT FROM rollouts WHERE {where}")
    return int(rows.fetchall()[0][0])


def status(store: Store, run: str) -> list[str]:
    text = "SELECT status FROM raw.runs WHERE run_id = $run ORDER BY entered_at"
    return [row[0] for row in store.sql(text, {"run": run}).fetchall()]


def test_generate_stops_at_the_limit_and_goes_on_when_it_is_raised(
    store: Store, generate: Run
) -> None:
    declare(store, "[stage.opd]\ngenerated_tokens = 30\n")
    stopped = generate("--n", 2, "--chunk", 2)
    assert stopped.code == 1
    assert "generate run gen stopped at the budget's limit" in stopped.err
    assert "all that was finished before is stored" in stopped.err
    assert "stage opd: generated_tokens declared 30, spent " in stopped.err
    assert "run the same command again: it continues" in stopped.err
    kept = total(store, "response_tokens", "run_id = 'gen'")
    assert 30 - 8 < kept <= 30, "the next rollout, 8 tokens at most, would not have fitted"
    assert status(store, "gen") == ["running", "interrupted"]
    Budget.find(store).check(store)

    declare(store, "[stage.opd]\ngenerated_tokens = 1000\n")
    assert generate("--n", 2, "--chunk", 2).code == 0
    assert total(store, "1", "run_id = 'gen'") == 16
    assert status(store, "gen")[-1] == "done"


def test_an_interrupted_run_gives_the_same_rollouts_as_an_undisturbed_one(
    store: Store, generate: Run, tmp_path: Path
) -> None:
    whole = made_stores.copy(store, tmp_path / "whole")
    declare(store, "[experiment]\ngenerated_tokens = 160\n")
    assert generate("--n", 1, "--chunk", 2).code == 1
    (store.root / "budget.toml").unlink()
    assert generate("--n", 1, "--chunk", 2).code == 0
    text = "SELECT rollout_id, response_token_ids FROM rollouts WHERE run_id = 'gen' ORDER BY 1"
    resumed = store.sql(text).fetchall()
    store.folder.rename(tmp_path / "resumed")
    whole.folder.rename(tmp_path / "store")
    assert generate("--n", 1, "--chunk", 2).code == 0
    assert Store.open(tmp_path / "store").sql(text).fetchall() == resumed


def test_generate_is_refused_when_nothing_is_left(store: Store, generate: Run) -> None:
    assert generate("--n", 1).code == 0
    used = total(store, "response_tokens", "run_id = 'gen'")
    declare(store, f"[stage.opd]\ngenerated_tokens = {used}\n")
    before = contents(store)
    refused = generate("--n", 2)
    assert refused.code == 1
    assert "nothing is left in the budget for generate run gen" in refused.err
    assert f"declared {used}, spent {used}, left 0" in refused.err
    assert contents(store) == before
    repeated = generate("--n", 1)
    assert repeated.code == 0, "a finished run has nothing to spend"


def test_flops_stop_generate_too(store: Store, generate: Run) -> None:
    (spent,) = store.sql("SELECT sum(flops) FROM spent").fetchall()[0]
    declare(store, f"[experiment]\nflops = {spent + 2e6}\n")
    stopped = generate("--n", 4)
    assert stopped.code == 1 and "experiment: flops declared" in stopped.err
    assert 0 < total(store, "1", "run_id = 'gen'") < 32
    Budget.find(store).check(store)


def test_other_scopes_and_evaluation_are_not_limited(store: Store, generate: Run) -> None:
    declare(
        store,
        "[role.teacher]\ngenerated_tokens = 0\n[stage.warmup]\ngenerated_tokens = 0\n"
        '[run."other"]\ngenerated_tokens = 0\n',
    )
    assert generate("--n", 1).code == 0
    declare(store, "[experiment]\ngenerated_tokens = 0\n")
    assert generate("--run", "eval", "--purpose", "eval").code == 0
    declare(store, 'purpose = "any"\n[experiment]\ngenerated_tokens = 0\n')
    assert generate("--run", "eval-2", "--purpose", "eval").code == 1


def test_a_stage_given_once_limits_later_calls_without_it(
    store: Store, cli: Cli, student_folder: Path
) -> None:
    declare(store, "[stage.opd]\ngenerated_tokens = 30\n")
    usual: tuple[object, ...] = (
        "generate",
        "--policy",
        student_folder,
        "--role",
        "student",
        "--run",
        "gen",
    )
    usual += ("--max-tokens", 8, "--n", 2, "--store", store.root)
    assert cli(*usual, "--stage", "opd").code == 1
    again = cli(*usual)
    assert again.code == 1 and "stage opd" in again.err


def test_generate_with_verify_is_held_to_the_graded_labels(
    registered: Store, generate: Run
) -> None:
    store = registered
    declare(store, "[stage.opd]\ngraded_labels = 7\n")
    before = contents(store)
    refused = generate("--verify")
    assert refused.code == 1
    assert "graded_labels declared 7, spent 0, left 7, would add 8" in refused.err
    assert contents(store) == before
    assert generate("--verify", "--limit", 7, "--n", 2).code == 0
    assert generate("--verify", "--limit", 7, "--n", 3).code == 0, "the same prompts add nothing"


def test_score_is_refused_with_figures_and_counts_by_the_rollouts_stage(
    registered: Store, cli: Cli, student_folder: Path, tmp_path: Path
) -> None:
    store = registered
    tokens = total(store, "response_tokens")
    command = ("score", "--scorer", student_folder, "--top-logprobs", 3, "--store", store.root)
    declare(store, f"[stage.warmup]\nscored_tokens = {tokens - 1}\n")
    before = contents(store)
    refused = cli(*command)
    assert refused.code == 1
    assert (
        f"stage warmup: scored_tokens declared {tokens - 1}, spent 0, left {tokens - 1}, "
        f"would add {tokens}" in refused.err
    )
    assert contents(store) == before
    roomy = tmp_path / "roomy.toml"
    roomy.write_text(f"[stage.warmup]\nscored_tokens = {tokens}\n")
    assert cli(*command, "--budget", roomy).code == 0
    Budget.load(roomy).check(store)
    assert cli(*command).code == 0, "with everything scored, nothing is spent any more"


def test_verify_is_refused_by_distinct_prompts(store: Store, cli: Cli) -> None:
    declare(store, "[role.teacher]\ngraded_labels = 7\n")
    before = contents(store)
    refused = cli("verify", "--n-workers", 1, "--store", store.root)
    assert refused.code == 1
    assert "role teacher: graded_labels declared 7, spent 0, left 7, would add 8" in refused.err
    assert contents(store) == before
    declare(store, "[role.teacher]\ngraded_labels = 8\n")
    assert cli("verify", "--n-workers", 1, "--limit", 3, "--store", store.root).code == 0
    assert cli("verify", "--n-workers", 1, "--store", store.root).code == 0
    Budget.find(store).check(store)


@pytest.fixture
def graded(store: Store) -> Store:
    """Every rollout right, so that a warmup dataset has 16 rows on 8 labels in 4 updates."""
    ids = [row[0] for row in store.sql("SELECT rollout_id FROM rollouts").fetchall()]
    spending.grade(store, ids, "verify")
    return store


WARMUP = {"teacher": "teacher", "rows_per_update": "4", "finished_only": "false"}


@pytest.mark.parametrize(
    ("limit", "figures"),
    [
        ("[experiment]\nlabels = 7", "experiment: labels declared 7, spent 0, left 7, would add 8"),
        ("[stage.warmup]\nupdates = 3", "stage warmup: updates declared 3, .* would add 4"),
        ("[experiment]\ntrained_tokens = 5", "trained_tokens declared 5, spent 0, left 5"),
    ],
)
def test_building_is_refused_when_training_would_go_over(
    graded: Store, limit: str, figures: str
) -> None:
    declare(graded, limit)
    before = contents(graded)
    with pytest.raises(BudgetError, match="training on dataset w would go over") as caught:
        build(graded, "w", queries.catalog()["warmup"], WARMUP)
    assert re.search(figures, caught.value.why)
    assert contents(graded) == before
    assert not (graded.root / "datasets" / "w").exists()


def test_building_again_after_training_is_no_new_spending(graded: Store) -> None:
    lock = build(graded, "w", queries.catalog()["warmup"], WARMUP)
    spending.train(graded, "train", lock["dataset_id"], "warmup")
    declare(graded, "[stage.warmup]\nupdates = 4\nlabels = 8\n")
    assert build(graded, "w", queries.catalog()["warmup"], WARMUP) == lock
    with pytest.raises(BudgetError, match="training on dataset v"):
        build(graded, "v", queries.catalog()["warmup"], WARMUP)


def test_training_is_refused_by_the_lock_and_its_own_updates_count_once(
    graded: Store, registered: Store, cli: Cli, student_folder: Path, tmp_path: Path
) -> None:
    build(graded, "w", queries.catalog()["warmup"], WARMUP)
    command: tuple[object, ...] = (
        "train",
        "warmup",
        "--dataset",
        "w",
        "--student",
        student_folder,
        "--quiet",
    )
    command += ("--output", tmp_path / "out", "--store", graded.root)
    declare(graded, "[role.student]\nlabels = 7\nlabel_visits = 7\n[stage.warmup]\nupdates = 3\n")
    before = contents(graded)
    refused = cli(*command)
    assert refused.code == 1
    assert "role student: labels declared 7, spent 0, left 7, would add 8" in refused.err
    assert "role student: label_visits declared 7, spent 0, left 7, would add " in refused.err
    assert "stage warmup: updates declared 3, spent 0, left 3, would add 4" in refused.err
    assert contents(graded) == before and not (tmp_path / "out").exists()

    declare(graded, "[role.student]\nlabels = 8\n[stage.warmup]\nupdates = 4\n")
    assert cli(*command).code == 0
    Budget.find(graded).check(graded)
    assert cli(*command).code == 0, "the finished run is repeated: its updates are not new"
    other = cli(*command, "--lr", "1e-4", "--output", tmp_path / "other")
    assert other.code == 1 and "updates declared 4, spent 4, left 0, would add 4" in other.err
    assert "labels" not in other.err, "the same labels again are no new labels"
    declare(graded, "[experiment]\nflops = 1e3\n")
    assert (
        "flops declared 1,000" in cli(*command, "--lr", "1e-4", "--output", tmp_path / "other").err
    )


def test_a_malformed_budget_stops_every_command_before_it_starts(
    store: Store, generate: Run, cli: Cli
) -> None:
    declare(store, "[experiment]\nlabls = 1\n")
    before = contents(store)
    score = ("score", "--scorer", "teacher", "--top-logprobs", 2, "--store", store.root)
    for result in (generate(), cli("verify", "--n-workers", 1, "--store", store.root), cli(*score)):
        assert result.code == 1 and "unknown key 'labls'" in result.err
    assert contents(store) == before


def test_a_meter_sees_what_others_have_spent_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "REFRESH_S", 0.0)
    used = total(store, "response_tokens")
    limit = Limit("experiment", "", "generated_tokens", used + 50)
    watch = Guard(store, Budget((limit,), path=store.root / "budget.toml"))
    meter = watch.meter("this run", PlannedSpend("mine", "", "student"), ["generated_tokens"])
    meter.reserve({"generated_tokens": 10})
    spending.add_policy(store, "else")
    spending.generate(store, "theirs", "else", "abc")
    meter.reserve({"generated_tokens": 10})
    assert used + 20 + 30 == used + 50, "the limit, with what the other run took"
    spending.generate(store, "mine", "else", "a")
    meter.committed({"generated_tokens": 10})
    with pytest.raises(BudgetError, match="this run stopped at the budget's limit") as caught:
        meter.reserve({"generated_tokens": 1})
    assert f"spent {used + 50:,}, left 0, the next would add 1" in caught.value.why
