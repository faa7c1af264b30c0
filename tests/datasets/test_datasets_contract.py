"""What a dataset query must give: one clear error for each thing that is wrong, nothing changed."""

from __future__ import annotations

import pytest

import queries
from s2d_store.datasets.build import build, read_lock
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import DatasetError, QueryError
from s2d_store.store import Store
from tests.support import synthetic
from tests.support.dataset_rows import user_query

NUMBER = "row_number() OVER (ORDER BY rollout_id)"
ROW = f"{NUMBER} - 1 AS row"
ONE = f"SELECT {ROW}, 1 AS update"
FROM = "FROM rollouts"
TOPK = "scorer_policy_id, support, k"


@pytest.fixture
def filled(store: Store) -> Store:
    synthetic.fill(store, n_prompts=3, n=2, k=5)
    return store


@pytest.mark.parametrize(
    ("sql", "kind", "message"),
    [
        (f"SELECT 0 AS row, rollout_id {FROM}", "", "lacks the column update"),
        (f"SELECT 0 AS row, 1 AS update, rollout_id, 1 AS k {FROM}", "", "scorer_policy_id"),
        (f"{ONE}, rollout_id {FROM}", "opd", f"lacks the columns {TOPK}"),
        (
            f"{ONE}, rollout_id {FROM}",
            "grpo",
            "lacks the columns advantage, labelled",
        ),
        (f"SELECT 0 AS row, 1 AS update, rollout_id {FROM}", "", "does not number its rows 0 to 5"),
        (
            f"SELECT ({NUMBER} - 1) * 2 AS row, 1 AS update, rollout_id {FROM}",
            "",
            "where 1 should be, it has 2",
        ),
        (f"SELECT {ROW}, 2 AS update, rollout_id {FROM}", "", "row 0 has update 2"),
        (
            f"SELECT {ROW}, 7 - {NUMBER} AS update, rollout_id {FROM}",
            "",
            "does not count its updates",
        ),
        (f"SELECT {ROW}, CASE sample_index WHEN 1 THEN 1 END AS update, rollout_id {FROM}", "",
         "gives null in column update, first in row"),
        (f"SELECT 'first' AS row, 1 AS update, rollout_id {FROM}", "", "column row .* is string"),
        (f"{ONE}, seed AS rollout_id {FROM}", "", "rollout_id .* is int64"),
        (f"SELECT {ROW}, 1.5 AS update, rollout_id {FROM}", "", "does not fit int32"),
        (
            f"{ONE}, rollout_id, created_at AS since {FROM}",
            "",
            r"column since .* is timestamp",
        ),
        ("SELECT 0 AS row, 1 AS update, 'gone' AS rollout_id", "", "not stored, e.g. rollout gone"),
        ("SELECT 0 AS row, 1 AS update, 'x' AS rollout_id WHERE false", "", "selects no rows"),
        (f"SELECT 0 AS row, 1 AS update, rollout_id, prompt_id {FROM}", "", "builder adds itself"),
        (f"{ONE}, rollout_id, 9 AS response_tokens {FROM}", "", "adds itself"),
        (
            f"{ONE}, rollout_id, 'nan'::DOUBLE AS advantage, true AS labelled "
            f"{FROM}",
            "grpo",
            "gives an advantage that is not finite, first in row 0",
        ),
        (
            f"{ONE}, rollout_id, 'yes' AS labelled {FROM}",
            "",
            "column labelled .* is string, which does not fit bool",
        ),
        (
            f"{ONE}, rollout_id, scorer_policy_id, 'both' AS support, k FROM topk",
            "",
            "gives support both",
        ),
        (
            f"{ONE}, rollout_id, scorer_policy_id, support, k + 1 AS k FROM topk",
            "",
            "6 rows of query mine name rollouts or top-k that are not stored",
        ),
    ],
)  # fmt: skip
def test_queries_that_make_no_dataset(filled: Store, sql: str, kind: str, message: str) -> None:
    before = filled.snapshot().versions
    with pytest.raises(DatasetError, match=message):
        build(filled, "bad", user_query(sql, kind=kind), {})
    assert not (filled.folder / "datasets").exists() or not list(
        (filled.folder / "datasets").iterdir()
    )
    assert filled.snapshot().versions == before


@pytest.mark.parametrize("sql", ["SELECT nonsense", "COPY rollouts TO 'x.csv'", "SELEC 1"])
def test_sql_that_does_not_run_or_would_write(filled: Store, sql: str) -> None:
    with pytest.raises(QueryError):
        build(filled, "bad", user_query(sql), {})
    assert not (filled.root / "datasets" / "bad").exists()


def test_types_are_made_those_of_datasets(filled: Store) -> None:
    sql = (
        f"SELECT ({NUMBER} - 1)::HUGEINT AS row, 1.0 AS update, rollout_id, "
        f"1.25::DECIMAL(9, 3) AS w, [1, 2] AS pair, sample_index::UTINYINT AS s "
        f"{FROM} ORDER BY seed DESC"
    )
    columns = build(filled, "typed", user_query(sql), {})["columns"]
    assert columns[:2] == ["row: int64", "update: int32"]
    assert "w: double" in columns and "s: uint8" in columns
    assert any(c.startswith("pair: list<") for c in columns)
    rows = open_dataset(filled, "typed")
    assert next(rows.updates(columns=["w"])).scalars["w"].tolist() == [1.25] * 6


HEADER = """-- question: which rollouts?
-- grain: one row per rollout
-- kind: {kind}
-- params: none
-- columns: row, update, rollout_id, advantage, labelled
"""


def test_a_users_query_names_the_kind_it_stands_in_for(filled: Store) -> None:
    text = HEADER.format(kind="grpo") + (
        f"{ONE}, rollout_id, 0.5 AS advantage, true AS labelled {FROM}"
    )
    query = queries.parse("mine", "user", text)
    assert query.kind == "grpo"
    lock = build(filled, "g", query, {})
    assert (lock["kind"], lock["query"]) == ("grpo", "mine")
    assert open_dataset(filled, "g").lock.kind == "grpo"
    assert queries.parse("own", "user", text.replace("-- kind: grpo\n", "")).kind == "own"
    assert all(q.kind == name for name, q in queries.catalog().items() if q.folder == "datasets")


def test_rows_that_nothing_graded_can_be_read(filled: Store) -> None:
    """A reward may be unknown; it reads as NaN."""
    import numpy as np

    given = {"teacher": "teacher", "correct_only": "false", "verifier": "other"}
    build(filled, "w", queries.catalog()["warmup"], given)
    assert read_lock(filled, "w")["counts"]["labels"] == 0
    (update,) = open_dataset(filled, "w").updates()
    assert np.isnan(update.scalars["reward"]).all()
