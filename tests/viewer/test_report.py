"""`s2d report`: one file that says what the store says, in three forms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.recipes.parse import read_recipe
from s2d_store.errors import InputError, S2DError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.tiny_recipe import Write
from viewer import claims, demo, report
from viewer.claims import Claim
from viewer.pages import experiment
from viewer.snapshots import View
from viewer.text import p_value

BETTER = Claim(text="it learns", better="stage3", than="student")
WORSE = Claim(text="it unlearns", better="student", than="stage3")
WIDE = Claim(text="within a wide margin", same=("stage3", "bridge"), margin=0.9)
PROVED = Claim(text="matched", better="stage3", than="student", proof=("no_such_audit",))


@pytest.fixture(scope="module")
def store(demo_store: Store) -> Store:
    return demo_store


@pytest.fixture(scope="module")
def view(store: Store) -> View:
    return report.opened(store)


@pytest.fixture(scope="module")
def page(view: View) -> str:
    return report.write(view, "html", [BETTER, WORSE], title="<b>hostile</b>")


def test_one_file_without_script_or_network(page: str) -> None:
    assert page.lstrip().startswith("<!doctype html>")
    assert "<script" not in page and "<link" not in page and "@import" not in page
    asked = re.findall(r'(?:src|href)="([^"#]*)', page)
    assert not any(asked), asked
    assert "<b>hostile</b>" not in page and "&lt;b&gt;hostile" in page


def test_it_holds_what_the_store_says(view: View, page: str) -> None:
    results = page[page.index('id="results"') : page.index('id="claims"')]
    evaluated = {row["policy"] for row in experiment.scores_of(view)[0]}
    assert len(evaluated) == len(demo.STAGES) + 1
    assert all(f"<td>{name}</td>" in results for name in evaluated)
    for name in demo.STAGES:
        assert f">{name.name}" in page
    for audit in ("contamination_exact", "topk_alignment"):
        assert f"<b>{audit}</b>" in page
    rollouts = page[page.index('id="rollouts"') :]
    assert rollouts.count("<details>") >= 10


def test_no_p_value_is_zero() -> None:
    assert [p_value(p) for p in (0.0, 1.4e-5, 0.02276, 1.0)] == [
        "< 0.001",
        "< 0.001",
        "0.0228",
        "1",
    ]


def test_a_seed_draws_the_same_rollouts(view: View) -> None:
    def drawn(seed: int) -> list[str]:
        text = report.write(view, "html", seed=seed, n_rollouts=5)
        return re.findall(r", eval, <code>(.*?)</code>", text)

    assert len(drawn(0)) == 5 and drawn(0) == drawn(0) != drawn(1)


def test_claims_hold_or_do_not(view: View) -> None:
    text = report.write(view, "md", [BETTER, WORSE, WIDE, PROVED])
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "|" in line}
    assert lines["it learns"].endswith("| yes |")
    assert "the test says: worse" in lines["it unlearns"]
    assert lines[WIDE.text].endswith("| yes |")
    assert "audit no\\_such\\_audit: not run" in lines["matched"]


def test_no_gain_takes_a_margin_that_the_data_refute(view: View) -> None:
    def holds(margin: float) -> bool:
        claim = Claim(text="same", same=("stage3", "bridge"), margin=margin)
        return "| yes |" in report.write(view, "md", [claim])

    assert holds(0.9) and not holds(0.001)


def test_markdown_and_latex_escape_what_they_print(view: View) -> None:
    claim = Claim(text="a|b_c & 5%", better="stage3", than="student")
    assert "a\\|b\\_c & 5%" in report.write(view, "md", [claim])
    latex = report.write(view, "latex", [claim])
    assert r"a|b\_c \& 5\%" in latex and latex.count(r"\begin{tabular}") == 3


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (Claim(text="c", better="a"), "lacks better or than"),
        (Claim(text="c"), "neither which is better nor which are the same"),
        (Claim(text="c", same=("a", "b")), "margin 0"),
        (Claim(text="c", same=("a", "b"), better="a", than="b"), "or both"),
    ],
)
def test_a_claim_must_compare_two(claim: Claim, message: str) -> None:
    with pytest.raises(InputError, match=message):
        claims.check(claim, "claim c")


def test_a_store_without_anything_has_a_report(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "empty")
    for form in report.TEMPLATES:
        assert report.write(report.opened(store), form)


def test_the_command_writes_by_the_ending(store: Store, tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "out" / "r.md"
    done = cli("report", "--store", store.root, "-o", path)
    assert str(path) in done.out
    assert path.read_text().startswith("# ")


def test_claims_of_a_recipe_are_checked_with_it(recipe: Write) -> None:
    made = recipe("a", ("[stage.eval]", '[claim.c]\ntext = "t"\nbetter = "warmup"\n[stage.eval]'))
    with pytest.raises(S2DError, match=r"\[claim\.c\] lacks better or than"):
        read_recipe(made)
