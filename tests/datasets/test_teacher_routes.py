"""Several teachers in one dataset: SQL names one for each prompt; the lock keeps what it named."""

from __future__ import annotations

import pytest

from s2d_store.audits import audit
from s2d_store.datasets.build import read_lock, verify
from s2d_store.errors import DatasetError, NotFoundError, QueryError, S2DError
from s2d_store.store import Store
from tests.support.dataset_rows import (
    Made,
    add_policies,
    add_prompts,
    add_rollouts,
    add_scores,
    built,
    policy_id,
)
from tests.support.synthetic import policy

PROMPTS = 6
BY_HALVES = "CASE WHEN prompt_id < 'p003' THEN 'coder' ELSE 'solver' END"
NAMES = ("coder", "solver")


@pytest.fixture
def scored(store: Store) -> Store:
    """Six prompts; every rollout of the student is scored by two teachers on both supports."""
    add_prompts(store, PROMPTS)
    add_policies(store, policy("student"), *map(policy, NAMES))
    made = [Made(p, s, tokens=3 + p, reward=1.0) for p in range(PROMPTS) for s in range(2)]
    ids = add_rollouts(store, "gen", "student", made)
    for name in NAMES:
        for support in ("own", "policy"):
            add_scores(store, name, ids, [m.tokens for m in made], support)
    return store


def scorers(rows: object) -> dict[str, str]:
    columns = (rows.column(c).to_pylist() for c in ("rollout_id", "scorer_policy_id"))  # type: ignore[attr-defined]
    return dict(zip(*columns, strict=True))


def opd(store: Store, name: str, teacher: str) -> dict[str, str]:
    return scorers(built(store, name, "opd", student="student", teacher=teacher, rows_per_update=4))


def test_rows_take_the_teacher_that_sql_names(scored: Store) -> None:
    """As the datasets of each teacher alone have them, prompt by prompt."""
    alone = {name: opd(scored, name, name) for name in NAMES}
    routed = opd(scored, "routed", BY_HALVES)
    assert routed == {
        rollout: alone["coder" if rollout < "gen-003" else "solver"][rollout]
        for rollout in alone["coder"]
    }
    assert set(routed.values()) == set(map(policy_id, NAMES))


def test_the_lock_names_every_teacher_and_builds_again(scored: Store) -> None:
    opd(scored, "routed", BY_HALVES)
    lock = read_lock(scored, "routed")
    assert lock["scorers"] == sorted(map(policy_id, NAMES))
    assert lock["params"]["teacher"] == BY_HALVES
    assert verify(scored, "routed").matches
    opd(scored, "one", "coder")
    assert lock["fingerprint"] != read_lock(scored, "one")["fingerprint"]
    found = scored.sql("SELECT scorer_policy_id FROM dataset_scorers ORDER BY ALL").fetchall()
    assert found == sorted((policy_id(name),) for name in ("coder", *NAMES))
    for result in audit(scored, ["topk_alignment", "locks_rebuild"]):
        assert result.status == "passed", result


def test_prompts_without_a_teacher_are_left_out(scored: Store) -> None:
    some = opd(scored, "some", "CASE WHEN prompt_id = 'p001' THEN 'solver' END -- of one prompt")
    assert sorted(some) == ["gen-001-0-0", "gen-001-1-0"]


def test_warmup_routes_its_scorer(scored: Store) -> None:
    given = {"teacher": "student", "correct_only": False}
    rows = built(scored, "w", "warmup", scorer=BY_HALVES, **given)
    assert set(scorers(rows).values()) == set(map(policy_id, NAMES))


def test_a_routed_warmup_spends_the_labels_of_every_teachers_rows(scored: Store) -> None:
    labels = {}
    for name, scorer in (("routed", BY_HALVES), ("alone", "coder")):
        built(scored, name, "warmup", teacher="student", scorer=scorer, finished_only=False)
        labels[name] = read_lock(scored, name)["counts"]["labels"]
    assert labels == {"routed": PROMPTS, "alone": PROMPTS}


@pytest.mark.parametrize(
    ("teacher", "error", "says"),
    [
        ("CASE source WHEN 'made' THEN 'codr' END", NotFoundError, "no policy 'codr'.*coder"),
        ("CASE WHEN false THEN 'coder' END", DatasetError, "names no policy for any prompt"),
        ("'coder') FROM raw.prompts; DROP TABLE x; --", QueryError, ""),
        ("CASE origin WHEN 'x' THEN 'coder' END", QueryError, "origin"),
        ("coder2", NotFoundError, "no policy 'coder2'"),
        ("(SELECT any_value(content) FROM read_text('/etc/passwd'))", QueryError, ""),
    ],
)
def test_what_names_no_teacher_is_refused(
    scored: Store, teacher: str, error: type[S2DError], says: str
) -> None:
    with pytest.raises(error, match=f"(?s){says}"):
        opd(scored, "wrong", teacher)
    assert not (scored.root / "datasets" / "wrong").exists()
