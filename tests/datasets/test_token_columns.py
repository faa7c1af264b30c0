"""Masks, logprobs that nobody knows, and a reference policy's logprobs, in datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import queries
from s2d_store.datasets.build import build, materialise, read_lock, verify
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import DatasetError
from s2d_store.store import Store
from tests.support import synthetic
from tests.support.dataset_rows import add_policies, add_prompts, policy_id, read, user_query

SQL = (
    "SELECT row_number() OVER (ORDER BY rollout_id) - 1 AS row, 1 AS update, rollout_id{more} "
    "FROM rollouts{where}"
)


def rollout(name: str, **columns: Any) -> dict[str, Any]:
    return (
        synthetic.ROLLOUT
        | {
            "rollout_id": name,
            "role": "student",
            "run_id": "gen",
            "prompt_id": "p000",
            "policy_id": policy_id("student"),
            "sample_index": 0,
            "response_token_ids": [1, 2, 3],
            "response_logprobs": [-0.5, -0.25, -0.125],
            "response_tokens": 3,
        }
        | columns
    )


@pytest.fixture
def made(store: Store) -> Store:
    """A plain rollout, one with a tool's output inside, one imported without logprobs, and text."""
    add_policies(store, synthetic.policy("student"), synthetic.policy("ref"))
    add_prompts(store, 1)
    imported = {"origin": "imported", "tokens_from": "retokenised"}
    rows = [
        rollout("a"),
        rollout(
            "b",
            origin="captured",
            response_mask=[True, False, True],
            response_logprobs=[-0.5, None, -1.0],
            sampled_tokens=2,
        ),
        rollout("c", **imported, response_logprobs=None),
        rollout("d", **imported, response_logprobs=[-1.0, None, -1.0]),
        rollout(
            "e",
            **imported | {"tokens_from": "none"},
            response_logprobs=None,
            **dict.fromkeys(
                ("prompt_token_ids", "response_token_ids", "prompt_tokens", "response_tokens")
            ),
        ),
    ]
    store.commit({"rollouts": synthetic.table("rollouts", rows)}, fresh=True)
    return store


def add_ref(store: Store, rollout_id: str, k: int, logprobs: list[float]) -> None:
    columns = {
        "rollout_id": [rollout_id],
        "scorer_policy_id": [policy_id("ref")],
        "support": ["own"],
        "k": pa.array([k], pa.int32()),
        "token_ids": pa.array([[1] * (k * len(logprobs))], pa.list_(pa.int32())),
        "logprobs": pa.array([[-0.5] * (k * len(logprobs))], pa.list_(pa.float32())),
        "sampled_logprobs": pa.array([logprobs], pa.list_(pa.float32())),
        "run_id": ["score"],
        "created_at": pa.array([synthetic.NOW], pa.timestamp("us", tz="UTC")),
    }
    store.commit({"topk": pa.table(columns)}, fresh=True)


def query(where: str, *, kind: str = "", more: str = "") -> queries.Query:
    return user_query(SQL.format(where=where, more=more), kind=kind)


@pytest.mark.parametrize("copy_rows", [False, True])
def test_a_mask_comes_with_any_rollout_that_has_one(made: Store, copy_rows: bool) -> None:
    build(made, "w", query(" WHERE rollout_id IN ('a', 'b')"), {}, copy_rows=copy_rows)
    rows = read(made.folder / "datasets" / "w").to_pylist()
    assert [row["response_mask"] for row in rows] == [[True] * 3, [True, False, True]]
    assert [row["response_logprobs"] for row in rows] == [[-0.5, -0.25, -0.125], [-0.5, 0.0, -1.0]]
    assert verify(made, "w").matches
    build(made, "plain", query(" WHERE rollout_id = 'a'"), {}, copy_rows=copy_rows)
    assert "response_mask" not in open_dataset(made, "plain").columns


def test_both_forms_hold_the_same_masks(made: Store) -> None:
    build(made, "w", query(" WHERE rollout_id IN ('a', 'b')"), {})
    named = read(made.folder / "datasets" / "w")
    materialise(made, "w")
    assert read(made.folder / "datasets" / "w").equals(named)


def test_rollouts_without_token_ids_are_refused(made: Store) -> None:
    with pytest.raises(DatasetError, match=r"1 rollouts that query mine selects have no token ids"):
        build(made, "w", query(""), {})


def test_unknown_logprobs_are_refused_where_the_loss_needs_them(made: Store) -> None:
    more = ", 1.0 AS advantage, true AS labelled"
    few = " WHERE rollout_id <> 'e'"
    with pytest.raises(DatasetError, match=r"2 rollouts .* lack logprobs .*, e\.g\. c"):
        build(made, "w", query(few, kind="grpo", more=more), {})
    build(made, "known", query(few + " AND rollout_id < 'c'", kind="grpo", more=more), {})
    assert "response_logprobs" in open_dataset(made, "known").columns


def test_other_kinds_leave_unknown_logprobs_out(made: Store) -> None:
    build(made, "w", query(" WHERE rollout_id <> 'e'"), {})
    assert "response_logprobs" not in open_dataset(made, "w").columns
    build(made, "s", query(" WHERE rollout_id <> 'e'", kind="sft"), {})
    assert "response_logprobs" not in open_dataset(made, "s").columns


def test_a_reference_policys_logprobs_come_along(made: Store) -> None:
    more = f", '{policy_id('ref')}' AS ref_policy_id"
    with pytest.raises(DatasetError, match="logprobs of ref_policy_id that are not stored"):
        build(made, "w", query(" WHERE rollout_id IN ('a', 'b')", more=more), {})
    add_ref(made, "a", 1, [-1.0, -2.0, -3.0])
    add_ref(made, "b", 2, [-4.0, -5.0, -6.0])
    add_ref(made, "b", 1, [-4.0, -5.0, -6.0])
    build(made, "w", query(" WHERE rollout_id IN ('a', 'b')", more=more), {})
    rows = next(open_dataset(made, "w").updates(columns=["ref_logprobs"]))
    values, offsets = rows.lists["ref_logprobs"]
    np.testing.assert_array_equal(values, np.array([-1, -2, -3, -4, -5, -6], np.float32))
    assert offsets.tolist() == [0, 3, 6]
    assert read_lock(made, "w")["sources"]["ref"]["columns"] == {"sampled_logprobs": "ref_logprobs"}
    assert verify(made, "w").matches
