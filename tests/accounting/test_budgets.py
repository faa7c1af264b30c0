"""Budgets: files that are read or refused, and what the store's facts say was spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import queries
from s2d_store.accounting import budget_file
from s2d_store.accounting.budget_file import METRICS, Budget, Limit
from s2d_store.errors import BudgetError, InputError, NotFoundError
from s2d_store.store import Store
from tests.support import made_stores, spending, synthetic

FORWARD = 2 * 1000 * (spending.PROMPT_TOKENS + spending.TOKENS)
BACKWARD = 3 * FORWARD


@pytest.fixture
def whole(spent: Store, tmp_path: Path) -> Store:
    return made_stores.copy(spent, tmp_path / "whole")


def budget(store: Store, text: str) -> Budget:
    """Declare a budget in the store's own file."""
    (store.root / "budget.toml").write_text(text)
    return Budget.find(store)


def spent(store: Store, by: str, purpose: str | None = "train") -> dict[Any, tuple[Any, ...]]:
    """labels, graded, generated, scored, trained, updates by name."""
    sql = queries.catalog()[f"spent_by_{by}"].sql
    relation = store.sql(sql, {"purpose": purpose})
    first = relation.columns.index("labels")
    return {row[0]: tuple(row[first : first + 6]) for row in relation.fetchall()}


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text(
        'purpose = "any"\n[experiment]\nlabels = 5\nflops = 1e18\n[role.teacher]\n'
        'scored_tokens = 1e6\n[stage.warmup]\nupdates = 0\n[run."g-1"]\ngenerated_tokens = 7\n'
    )
    read = Budget.load(path)
    assert (read.purpose, read.path) == ("any", path)
    assert read.limits == (
        Limit("experiment", "", "labels", 5),
        Limit("experiment", "", "flops", 1e18),
        Limit("role", "teacher", "scored_tokens", 1_000_000),
        Limit("stage", "warmup", "updates", 0),
        Limit("run", "g-1", "generated_tokens", 7),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[experiment]\nlabls = 1", "unknown key 'labls' in .experiment.; did you mean 'labels'"),
        ("[stages.warmup]\nlabels = 1", "unknown key 'stages'; did you mean 'stage'"),
        ("labels = 1", "unknown key 'labels'"),
        ("[role.techer]\nlabels = 1", "unknown key 'role.techer'; did you mean 'role.teacher'"),
        ("[role]\nlabels = 1", r"\[role\] does not say which role it limits"),
        ("stage = 3", r"\[stage\] does not say which stage it limits"),
        ("experiment = 3", "experiment is 3"),
        ("[experiment]\nlabels = -1", "labels in .experiment. is -1"),
        ("[experiment]\nlabels = true", "labels in .experiment. is True"),
        ("[experiment]\nlabels = '5'", "labels in .experiment. is '5'"),
        ("[experiment]\nflops = inf", "flops in .experiment. is inf"),
        ("[experiment]\nupdates = 1.5", "updates in .experiment. is 1.5"),
        ("purpose = 'eval'", "purpose is 'eval'"),
        ("[experiment\n", "is not TOML"),
    ],
)
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        Budget.load(path)
    if "unknown key" in message:
        assert "allowed: " in caught.value.why


def test_unknown_keys_name_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text("[experiment]\ngpu_hours = 1")
    with pytest.raises(InputError) as caught:
        Budget.load(path)
    assert caught.value.why == f"allowed: {', '.join(METRICS)}"


def test_a_missing_file_is_an_error_and_no_file_is_not(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no budget file"):
        Budget.find(store, str(tmp_path / "none.toml"))
    assert Budget.find(store).limits == ()
    own = budget(store, "[experiment]\nlabels = 1\n")
    assert own.path == store.root / "budget.toml"
    other = tmp_path / "other.toml"
    other.write_text("[experiment]\nlabels = 2\n")
    assert Budget.find(store, str(other)).limits[0].declared == 2


def test_spending_by_role_stage_and_run_adds_up_by_hand(whole: Store) -> None:
    """Columns: labels, graded labels, generated, scored and trained tokens, updates."""
    assert spent(whole, "role") == {
        # Labels a b c d; graded a b c d on gt, c d e x on gw.
        "teacher": (4, 6, 80, 0, 40, 2),
        # Labels c d e of the warmup, a e f g at the end; graded e f on gs, a g on gf.
        "student": (6, 4, 20 + 20 + 30, 40, 30 + 20 + 40, 5),
    }
    assert spent(whole, "stage") == {
        "rl": (4, 4, 40, 0, 40, 2),
        "warmup": (3, 4, 40, 0, 30, 2),
        "opd": (0, 2, 20, 40, 20, 1),
        "grpo": (4, 2, 20, 0, 40, 2),
        "other": (0, 0, 30, 0, 0, 0),
    }
    by_run = spent(whole, "run", None)
    assert by_run["verify"] == (0, 10, 0, 0, 0, 0), "a b c d e x f g, and v w of evaluation"
    assert by_run["score"] == (0, 0, 0, 20, 0, 0)
    assert by_run["train-f"] == (4, 0, 0, 0, 40, 2)
    assert by_run["eval"] == (0, 0, 20, 0, 0, 0)
    assert "gw" in by_run and by_run["gw"] == (0, 0, 40, 0, 0, 0), "its own top-k is no scoring"


def test_totals_count_each_label_once_and_evaluation_on_request(whole: Store) -> None:
    sql = queries.catalog()["spent"].sql
    ((*amounts, flops, visits),) = whole.sql(sql, {"purpose": "train"}).fetchall()
    assert amounts == [7, 8, 150, 40, 130, 7]
    assert visits == 11, "4 in the teacher's RL, 3 in the warmup, 4 in GRPO"
    assert flops == pytest.approx(FORWARD * (15 + 4) + BACKWARD * 13)
    ((*amounts, flops, _),) = whole.sql(sql, {"purpose": None}).fetchall()
    assert amounts == [7, 10, 170, 40, 130, 7]
    assert flops == pytest.approx(FORWARD * (17 + 4) + BACKWARD * 13)


def test_a_second_grading_of_the_same_rollouts_adds_no_labels(whole: Store) -> None:
    spending.grade(whole, ["gt-a", "gt-b"], "verify-2", version="2")
    assert spent(whole, "stage")["rl"][1] == 4
    assert spent(whole, "run")["verify-2"][1] == 2


def test_a_run_without_a_stage_is_listed_as_such(store: Store) -> None:
    spending.add_policy(store, "p")
    spending.generate(store, "g", "p", "ab")
    assert spent(store, "stage") == {None: (0, 0, 20, 0, 0, 0)}


def test_a_training_run_that_has_made_no_policy_yet_counts_its_flops(store: Store) -> None:
    spending.add_policy(store, "p")
    rollouts = spending.generate(store, "g", "p", "ab")
    spending.train(store, "t", spending.dataset(store, "d", "opd", rollouts), "opd")
    config = {"policy_id": spending.policy_id("p")}
    spending.add_run(store, "u", "train", "opd", config)
    rows = store.sql("FROM updates").to_arrow_table().to_pylist()
    store.commit({"updates": synthetic.table("updates", [r | {"run_id": "u"} for r in rows])})
    flops = dict(store.sql("SELECT run_id, flops FROM spent WHERE kind = 'train'").fetchall())
    assert flops == {"t": 0.0, "u": BACKWARD * 2}, "t names no policy at all"


def test_status_holds_limits_against_their_own_scope(whole: Store) -> None:
    read = budget(
        whole,
        "[experiment]\nlabels = 10\nlabel_visits = 10\n[role.teacher]\nlabels = 3\n[stage.warmup]\n"
        'trained_tokens = 30\n[stage.none]\nupdates = 4\n[run."score-2"]\nscored_tokens = 21\n',
    )
    found = [(x.limit.title, x.limit.metric, x.spent, x.left, x.over) for x in read.status(whole)]
    assert found == [
        ("experiment", "labels", 7, 3, False),
        ("experiment", "label_visits", 11, -1, True),
        ("role teacher", "labels", 4, -1, True),
        ("stage warmup", "trained_tokens", 30, 0, False),
        ("stage none", "updates", 0, 4, False),
        ("run score-2", "scored_tokens", 20, 1, False),
    ]
    with pytest.raises(BudgetError, match="over budget in 2 of 6 limits") as caught:
        read.check(whole)
    assert caught.value.why == (
        "experiment: label_visits declared 10, spent 11, left -1; "
        "role teacher: labels declared 3, spent 4, left -1"
    )


def test_evaluation_counts_against_a_budget_of_any_purpose(whole: Store) -> None:
    text = "[experiment]\ngenerated_tokens = 160\n"
    budget(whole, text).check(whole)
    with pytest.raises(BudgetError, match="over budget"):
        budget(whole, f'purpose = "any"\n{text}').check(whole)


def test_budget_prints_declared_spent_and_left(whole: Store, cli: Any) -> None:
    budget(whole, "[experiment]\nlabels = 10\nflops = 1e18\n[role.teacher]\nlabels = 3\n")
    result = cli("budget", "--store", whole.root)
    assert result.code == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert ["experiment", "labels", "10", "7", "3"] in lines
    assert ["role", "teacher", "labels", "3", "4", "-1", "OVER"] in lines
    parsed = json.loads(cli("budget", "--format", "json", "--store", whole.root).out)
    assert parsed["limits"][2] == {
        "scope": "role",
        "name": "teacher",
        "metric": "labels",
        "declared": 3,
        "spent": 4,
        "left": -1,
        "over": True,
    }
    assert parsed["spent"][0]["generated_tokens"] == 150
    assert cli("budget", "--format", "yaml", "--store", whole.root).code == 1


def test_without_a_budget_it_shows_roles_and_stages(whole: Store, cli: Any) -> None:
    result = cli("budget", "--store", whole.root)
    assert result.code == 0 and "no budget declared" in result.out
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[2][:8] == ["experiment", "all", "7", "8", "150", "40", "130", "7"]
    assert [line[:3] for line in lines[3:5]] == [["role", "student", "6"], ["role", "teacher", "4"]]
    everything = cli("budget", "--purpose", "any", "--store", whole.root).out
    assert everything.splitlines()[2].split()[4] == "170"


def test_budgets_on_a_terminal_have_bars(whole: Store) -> None:
    import os
    import pty
    import subprocess
    import sys

    budget(whole, "[experiment]\nlabels = 10\n[role.teacher]\nlabels = 3\n")
    main, other = pty.openpty()
    command = [sys.executable, "-m", "cli.main", "budget", "--store", str(whole.root)]
    done = subprocess.run(command, stdout=other, cwd=Path(__file__).parents[2], check=True)
    os.close(other)
    shown = os.read(main, 65536).decode()
    os.close(main)
    assert done.returncode == 0
    assert "█" in shown


def test_check_exits_1_and_names_what_is_over(whole: Store, cli: Any, tmp_path: Path) -> None:
    nothing = cli("budget", "check", "--store", whole.root)
    assert nothing.code == 1 and "no budget to check" in nothing.err
    budget(whole, "[experiment]\nlabels = 7\n")
    fine = cli("budget", "check", "--store", whole.root)
    assert fine.code == 0 and "within budget: 1 limits" in fine.out
    tight = tmp_path / "tight.toml"
    tight.write_text("[stage.opd]\nscored_tokens = 39\n")
    for command in (
        ("budget", "check", "--budget", tight, "--store", whole.root),
        ("budget", "--budget", tight, "--store", whole.root, "check"),
    ):
        over = cli(*command)
        assert over.code == 1
        assert "stage opd: scored_tokens declared 39, spent 40, left -1" in over.err


def test_the_budget_file_can_come_from_the_environment(
    whole: Store, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = tmp_path / "tight.toml"
    tight.write_text("[experiment]\nlabels = 1\n")
    monkeypatch.setenv("S2D_BUDGET", str(tight))
    monkeypatch.setenv("S2D_STORE", str(whole.root))
    assert cli("budget", "check").code == 1


def test_the_example_in_the_docstring_runs(store: Store) -> None:
    import doctest

    synthetic.fill(store, n_prompts=2, n=2)
    result = doctest.testmod(budget_file, extraglobs={"store": store})
    assert result.attempted >= 4 and result.failed == 0
