"""Groups are what was sampled together, and rollouts of other sampling are refused by default."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from s2d_store.datasets.build import build, verify
from s2d_store.errors import DatasetError
from s2d_store.store import Store
from tests.support.dataset_rows import (
    Made,
    add_policies,
    add_prompts,
    add_rollouts,
    built,
    user_query,
)
from tests.support.synthetic import policy

COOL: dict[str, Any] = {"temperature": 0.2, "top_p": 0.5, "top_k": 20}


@pytest.fixture
def student(store: Store) -> Store:
    add_prompts(store, 4)
    add_policies(store, policy("student"), policy("teacher"))
    return store


def group(reward: float, prompts: int = 4) -> list[Made]:
    """Four rollouts of each prompt, the last one of another reward."""
    return [Made(p, s, reward=reward + (s == 3)) for p in range(prompts) for s in range(4)]


def test_groups_never_mix_runs(student: Store) -> None:
    """Two runs of one policy, sampled alike: eight rollouts of a prompt, but two groups of four."""
    add_rollouts(student, "first", "student", group(0.0))
    add_rollouts(student, "second", "student", group(10.0))
    rows = built(student, "g", "grpo", policy="student")
    assert set(rows.column("group_size").to_pylist()) == {4}
    assert len(set(rows.column("group_id").to_pylist())) == 8
    means = {(r["rollout_id"].split("-")[0], round(r["group_mean"], 6)) for r in rows.to_pylist()}
    assert means == {("first", 0.25), ("second", 10.25)}
    spread = np.array([0, 0, 0, 1]).std(ddof=1)
    np.testing.assert_allclose(sorted(set(rows.column("group_std").to_pylist())), spread)
    assert built(student, "eight", "grpo", policy="student", max_lag=0, group_size=4).num_rows == 32
    with pytest.raises(DatasetError, match="selects no rows"):
        built(student, "none", "grpo", policy="student", group_size=8)


@pytest.mark.parametrize(
    ("sampling", "shown"),
    [
        ({"temperature": 0.7}, "16 at temperature 0.7, top-p 1, top-k 0"),
        ({"top_p": 0.8}, "16 at temperature 1, top-p 0.8, top-k 0"),
        ({"top_k": 20}, "16 at temperature 1, top-p 1, top-k 20"),
        ({"top_p": None}, "16 at temperature 1, top-p unknown, top-k 0"),
    ],
)
def test_other_sampling_is_refused(student: Store, sampling: dict[str, Any], shown: str) -> None:
    plain = group(0.0)
    add_rollouts(student, "plain", "student", plain)
    add_rollouts(student, "other", "student", plain, **sampling)
    with pytest.raises(DatasetError) as error:
        built(student, "g", "grpo", policy="student")
    text = str(error.value)
    assert "16 of the 32 rollouts that query grpo selects were not drawn from" in text
    assert shown in text and "--param any_sampling=true takes them" in text
    assert built(student, "plain", "grpo", policy="student", runs="plain").num_rows == 16
    assert built(student, "g", "grpo", policy="student", any_sampling=True).num_rows == 32
    assert verify(student, "g").matches


def test_opd_and_its_continuation_refuse_it_too(student: Store) -> None:
    add_rollouts(student, "gen", "student", group(0.0))
    built(student, "treated", "grpo", policy="student")
    cool = [Made(p, s) for p in range(4) for s in range(8)]
    add_rollouts(
        student, "cool", "student", cool, scorer="teacher", support="policy", **COOL
    )  # fmt: skip
    given = {"student": "student", "teacher": "teacher"}
    with pytest.raises(DatasetError, match=r"temperature 0\.2, top-p 0\.5, top-k 20"):
        built(student, "bridge", "opd", **given)
    built(student, "bridge", "opd", any_sampling=True, **given)
    control = {"treatment": "treated", "bridge": "bridge"}
    with pytest.raises(DatasetError, match="16 of the 16 rollouts that query bridge_continuation"):
        built(student, "control", "bridge_continuation", **control)
    rows = built(student, "control", "bridge_continuation", any_sampling=True, **control)
    assert rows.num_rows == 16


def test_supervised_datasets_take_any_sampling(student: Store) -> None:
    made = group(1.0)
    add_rollouts(student, "cool", "student", made, scorer="student", **COOL)
    assert built(student, "w", "warmup", teacher="student").num_rows == 16
    assert built(student, "s", "sft", policy="student").num_rows == 16


def test_a_group_of_mixed_sampling_is_refused_even_so(student: Store) -> None:
    """As an importer may group them; s2d's own group ids hold the sampling."""
    for run, temperature in (("a", 1.0), ("b", 0.5)):
        add_rollouts(student, run, "student", group(0.0, 1), group_id="g", temperature=temperature)
    for any_sampling in (False, True):
        with pytest.raises(DatasetError, match="1 groups of query grpo mix rollouts of different"):
            built(student, "g", "grpo", policy="student", any_sampling=any_sampling)


def test_a_users_query_is_checked_as_its_kind(student: Store) -> None:
    add_rollouts(student, "cool", "student", group(0.0), **COOL)
    sql = (
        "SELECT row_number() OVER (ORDER BY rollout_id) - 1 AS row, 1 AS update, rollout_id, "
        "1.0 AS advantage, true AS labelled FROM rollouts"
    )
    with pytest.raises(DatasetError, match="declare `any_sampling: BOOLEAN = false`"):
        build(student, "g", user_query(sql, kind="grpo"), {})
    build(student, "mine", user_query(sql), {})
