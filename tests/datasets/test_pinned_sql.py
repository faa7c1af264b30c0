"""Locks hold the SQL that their query reaches: installed views may change, old locks may not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import duckdb
import pytest

import queries
from s2d_store.audits import locks_rebuild
from s2d_store.datasets.build import build, read_lock, verify
from s2d_store.datasets.lock_file import dataset_id, with_checksum
from s2d_store.datasets.open import open_dataset
from s2d_store.errors import DatasetError, S2DError
from s2d_store.maintenance.restore_dataset import restore
from s2d_store.store import Store
from tests.support import synthetic
from tests.support.dataset_rows import user_query

WARMUP = queries.catalog()["warmup"]


@pytest.fixture
def locked(store: Store) -> Store:
    synthetic.fill(store, n_prompts=6, n=4, k=5)
    build(store, "w", WARMUP, {"teacher": "teacher"})
    return store


def install_other_views(patch: pytest.MonkeyPatch) -> None:
    """A release in which only some rewards count."""
    original = queries.definitions

    def changed(tables: tuple[str, ...]) -> Mapping[str, str]:
        view = "CREATE VIEW current_rewards AS SELECT * FROM raw.rewards WHERE rollout_id < '8'"
        return dict(original(tables)) | {"current_rewards": view}

    patch.setattr(queries, "definitions", changed)


def test_a_lock_holds_the_views_and_macros_that_its_query_reaches(locked: Store) -> None:
    lock = read_lock(locked, "w")
    assert lock["format_version"] == 2 and lock["duckdb_version"] == duckdb.__version__
    assert {"current_rewards", "rollouts", "prompts", "topk"} <= set(lock["definitions"])
    assert "spent_labels" not in lock["definitions"]
    sql = (
        "SELECT row_number() OVER (ORDER BY rollout_id) - 1 AS row, 1 AS update, rollout_id "
        "FROM rollouts WHERE prompt_text([]) = ''"
    )
    definitions = build(locked, "m", user_query(sql), {})["definitions"]
    assert "CREATE MACRO prompt_text" in definitions["prompt_text"]


def test_a_changed_view_changes_no_old_lock(locked: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    build(locked, "parts", WARMUP, {"teacher": "teacher"}, copy_rows=True)
    before = read_lock(locked, "w")
    install_other_views(monkeypatch)
    after = build(locked, "v", WARMUP, {"teacher": "teacher"})
    assert after["counts"]["rows"] < before["counts"]["rows"], "the view decides"
    for name in ("w", "parts", "v"):
        assert verify(locked, name).matches
        assert locks_rebuild._rebuilt(locked, name) == []
    (locked.root / "datasets" / "w" / "rows.parquet").unlink()
    assert "written again" in restore(locked, "w")[0]
    assert verify(locked, "w").matches
    assert read_lock(locked, "w")["definitions"] == before["definitions"]


def test_a_lock_of_version_1_is_rebuilt_with_the_installed_views(
    locked: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(locked, "p", WARMUP, {"teacher": "teacher"}, copy_rows=True)
    edit(locked, "p", as_version_1)
    found = verify(locked, "p")
    assert found.matches and "version 1" in found.hint
    assert sum(rows.n_rows for rows in open_dataset(locked, "p").updates()) == 12
    install_other_views(monkeypatch)
    found = verify(locked, "p")
    assert found.files == found.locked != found.rebuilt, "nothing pins the views of such a lock"


def as_version_1(lock: dict[str, Any]) -> dict[str, Any]:
    new = ("content", "definitions", "duckdb_version", "facts", "form")
    kept = {key: value for key, value in lock.items() if key not in new}
    return kept | {"format_version": 1, "fingerprint": lock["content"]}


def edit(store: Store, name: str, change: Any) -> None:
    path = store.root / "datasets" / name / "lock.json"
    lock = change(json.loads(path.read_text()))
    path.write_text(json.dumps(with_checksum(lock | {"dataset_id": dataset_id(lock)})))


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1; COPY (SELECT 1) TO '/tmp/x.csv'",
        "-- a comment\nATTACH 'x.db'",
    ],
)
def test_a_lock_defines_nothing_but_views_and_macros(locked: Store, text: str) -> None:
    definitions = read_lock(locked, "w")["definitions"] | {"v": text}
    edit(locked, "w", lambda lock: lock | {"definitions": definitions})
    with pytest.raises(DatasetError, match="by SQL of another kind"):
        verify(locked, "w")


def test_a_view_of_a_lock_reaches_no_file_outside_the_store(locked: Store) -> None:
    outside = locked.root.parent / "outside.csv"
    outside.write_text("rollout_id\nr\n")
    definitions = read_lock(locked, "w")["definitions"]
    definitions["rollouts"] = f"CREATE VIEW rollouts AS SELECT * FROM read_csv('{outside}')"
    edit(locked, "w", lambda lock: lock | {"definitions": definitions})
    with pytest.raises(S2DError, match=r"reaches outside the store|cannot be rebuilt"):
        verify(locked, "w")


def test_another_duckdb_is_named_as_a_reason(locked: Store) -> None:
    edit(locked, "w", lambda lock: lock | {"duckdb_version": "0.1"})
    found = verify(locked, "w")
    assert found.matches and re.search(r"built with DuckDB 0\.1; this is DuckDB \d", found.hint)
