"""The paper's replay control (R7) and its companions: matched to Stage 3, no new label."""

from __future__ import annotations

import pytest

from s2d_store.datasets.build import read_lock, verify
from s2d_store.errors import DatasetError, NotFoundError
from s2d_store.store import Store
from tests.support import half_split
from tests.support.dataset_rows import Made, add_rollouts, built, trained
from tests.support.half_split import FIRST, SECOND, groups

Rows = list[dict[str, object]]


@pytest.fixture
def split(store: Store) -> Store:
    half_split.fill(store)
    return store


def shape(store: Store, name: str) -> list[tuple[int, int, int]]:
    """Rows and prompts of each update."""
    return store.sql(
        "SELECT update, count(*), count(DISTINCT prompt_id) FROM dataset_rows "
        "WHERE dataset_id = dataset_named($name) GROUP BY update ORDER BY update",
        {"name": name},
    ).fetchall()


def prompts(store: Store, name: str) -> set[int]:
    rows = store.sql(
        "SELECT DISTINCT prompt_id FROM dataset_rows WHERE dataset_id = dataset_named($name)",
        {"name": name},
    )
    return {int(prompt[1:]) for (prompt,) in rows.fetchall()}


def test_replay_is_grpo_on_labels_that_the_line_has_spent(split: Store) -> None:
    rows = built(split, "replay", "replay", treatment="stage3", policy="bridge")
    lock = read_lock(split, "replay")
    assert shape(split, "replay") == shape(split, "stage3") == [(1, 32, 8), (2, 32, 8)]
    assert prompts(split, "replay") == set(FIRST) and prompts(split, "stage3") == set(SECOND)
    assert lock["kind"] == "replay" and lock["counts"]["labels"] == 16
    stated = read_lock(split, "stage3")["params"]
    followed = ("verifier", "form", "epsilon", "keep_equal", "max_lag", "prompts_per_update")
    assert {k: lock["params"][k] for k in followed} == {k: stated[k] for k in followed}
    assert {row["rollout_id"][:9] for row in rows.to_pylist()} == {"gen-again"}
    assert verify(split, "replay").matches
    # Distinct labels stay what they were; the visits are counted.
    trained(split, "train-3", "stage3", "bridge", "made-3")
    trained(split, "train-7", "replay", "bridge", "made-7")
    for name, labels, visits in (("bridge", 16, 16), ("made-7", 16, 32), ("made-3", 32, 32)):
        ((*_, spent, seen),) = split.sql(
            "SELECT count(DISTINCT prompt_id), (SELECT sum(visits) FROM spent_labels AS s "
            "WHERE s.run_id IN ('train-rl', $run)) FROM spent_on_line($name)",
            {"name": name, "run": name.replace("made", "train")},
        ).fetchall()
        assert (spent, seen) == (labels, visits), name


def test_replay_takes_no_prompt_whose_label_is_new(split: Store) -> None:
    with pytest.raises(DatasetError, match="control query replay has 0 updates") as error:
        built(split, "r", "replay", treatment="stage3", policy="bridge", runs="gen-3")
    assert "it found 0 rows, dataset stage3 has 64" in str(error.value)
    assert prompts(split, "stage3") == set(SECOND)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompts_per_update": 4}, "prompts_per_update of control query replay is 4"),
        ({"form": "dr_grpo"}, "form of control query replay is dr_grpo"),
        ({"keep_equal": False}, "the treatment stage3 has True"),
        ({"verifier": "exact"}, "the treatment stage3 has math-verify"),
    ],
)
def test_settings_that_contradict_the_treatment_are_refused(
    split: Store, given: dict[str, object], says: str
) -> None:
    with pytest.raises(DatasetError, match=says):
        built(split, "r", "replay", treatment="stage3", policy="bridge", **given)
    built(split, "r", "replay", treatment="stage3", policy="bridge", form="grpo")


def test_a_replay_of_other_groups_is_refused(split: Store) -> None:
    add_rollouts(split, "gen-pairs", "bridge", groups(FIRST, 2))
    given = {"treatment": "stage3", "policy": "bridge"}
    with pytest.raises(DatasetError, match="update 1 of control query replay has 16 rows") as error:
        built(split, "r", "replay", runs="gen-pairs", **given)
    assert "dataset stage3 has 32 there" in str(error.value)
    with pytest.raises(NotFoundError, match="no dataset 'stage4' to match"):
        built(split, "r", "replay", treatment="stage4", policy="bridge")


def test_fresh_opd_scores_new_rollouts_on_the_same_prompts_without_a_label(split: Store) -> None:
    given = {"treatment": "stage3", "student": "bridge", "teacher": "teacher-rl"}
    built(split, "fresh", "fresh_opd", **given)
    assert [row[:2] for row in shape(split, "fresh")] == [(1, 32), (2, 32)]
    assert prompts(split, "fresh") == set(SECOND)
    assert read_lock(split, "fresh")["counts"]["labels"] == 0
    more = [Made(p, s, tokens=4) for p in range(32, 40) for s in range(4)]
    add_rollouts(split, "gen-more", "bridge", more, scorer="teacher-rl", support="policy")
    built(split, "again", "fresh_opd", **given)
    assert prompts(split, "again") == set(SECOND), "on Stage 3's prompts alone"


def test_continuation_draws_teacher_rollouts_of_its_own_warmup(split: Store) -> None:
    rows = built(split, "more", "continuation", treatment="stage3", tolerance=0.3)
    assert {row["rollout_id"][:5] for row in rows.to_pylist()} == {"gen-w"}
    assert [row[:2] for row in shape(split, "more")] == [(1, 32), (2, 32)]
    assert read_lock(split, "more")["counts"]["labels"] == 0


def test_continuation_visits_old_labels_and_refuses_new_ones(store: Store) -> None:
    half_split.fill(store)
    graded = [Made(p, s, tokens=8, reward=1.0) for p in (*FIRST, *range(32, 36)) for s in range(4)]
    add_rollouts(store, "gen-g", "teacher-rl", graded, role="teacher", scorer="teacher-rl")
    built(store, "old", "warmup", teacher="teacher-rl", runs="gen-g", max_per_prompt=4)
    given = {"treatment": "stage3", "bridge": "old", "tolerance": 0.5}
    with pytest.raises(DatasetError, match="would spend 4 new labels"):
        built(store, "more", "continuation", **given)
