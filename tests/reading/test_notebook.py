"""Stores, rollouts and datasets as a notebook shows them."""

from __future__ import annotations

import pytest

from s2d_store.errors import InputError, NotFoundError, QueryError
from s2d_store.evaluation.figures import Figure, Report, Score
from s2d_store.store import Store
from tests.support import two_policies
from tests.support.dataset_rows import Made, add_rollouts


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("compared") / "store")
    two_policies.fill(store)
    return store


def test_named_queries_are_methods_of_a_store(compared: Store) -> None:
    rows = compared.query("pass_rate", purpose="eval").fetchall()
    assert {row[0] for row in rows} == {"before", "after"}
    assert compared.query("pass_rate", purpose=None).fetchall() == rows
    assert compared.query("policy_kl", any_sampling=True).fetchall()
    with pytest.raises(NotFoundError, match="no query named 'pass_rat'; did you mean 'pass_rate'"):
        compared.query("pass_rat")
    with pytest.raises(InputError, match="has no parameter 'purpos'"):
        compared.query("pass_rate", purpos="eval")


def test_rollouts_that_meet_a_condition(compared: Store) -> None:
    assert len(compared.rollouts("policy = 'after' AND reward = 1").fetchall()) == 5
    assert len(compared.rollouts().fetchall()) == 16
    with pytest.raises(QueryError):
        compared.rollouts("true) OR (true")


def test_the_tokens_of_a_rollout(compared: Store) -> None:
    tokens = compared.tokens("gen-after-001-0")
    assert len(tokens.fetchall()) == 8 and "kl" in tokens.columns


def test_short_texts(compared: Store) -> None:
    assert repr(compared) == f"Store({str(compared.root)!r})"
    found = compared.rollout("gen-after-002-1")
    assert repr(found) == "Rollout('gen-after-002-1-0', after, 8 tokens, wrong)"
    assert found.scorers == ["teacher"]


def test_a_store_shows_its_tables(compared: Store) -> None:
    html = compared._repr_html_()
    assert "<td>rollouts</td><td>16</td>" in html and "<td>updates</td>" not in html


def test_hostile_text_stays_text(compared: Store) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    add_rollouts(compared, "evil", "after", [Made(0, 0, 2, 1.0)], response_text=evil)
    html = compared.rollout("evil")._repr_html_()
    assert "<script" not in html and "<img" not in html and "rgba(" in html


def test_an_evaluation_shows_itself() -> None:
    figures = (Figure("avg@1", 0.5, 0.1, 0.3, 0.7),)
    scores = tuple(Score(name, "run", 8, 8, 0, 1, 0, figures) for name in ("<b>", "other"))
    html = Report(1, "math-verify", 0.0, scores=scores)._repr_html_()
    assert "<td>&lt;b&gt;</td>" in html and "0.300 to 0.700" in html and "<b>" not in html
    assert "1 of 9 prompts are left out" in html
