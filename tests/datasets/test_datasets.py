"""Datasets: the warmup query, locks that rebuild bit for bit, and what breaks them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import queries
from s2d_store.datasets import build as building
from s2d_store.datasets import parts as writing
from s2d_store.datasets import plan as planning
from s2d_store.datasets.fingerprint import Fingerprint
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError, InputError, NotFoundError
from s2d_store.store import Store
from s2d_store.tables import fetch_rows as gathering
from tests.support import synthetic
from tests.support.dataset_rows import read, user_query

WARMUP = queries.catalog()["warmup"]


@pytest.fixture
def filled(store: Store) -> Store:
    synthetic.fill(store, n_prompts=6, n=4, k=5)
    return store


def built(
    store: Store, name: str = "w", seed: int = 0, *, copy_rows: bool = False, **given: str
) -> pa.Table:
    building.build(store, name, WARMUP, {"teacher": "teacher", **given}, seed, copy_rows=copy_rows)
    return read(store.folder / "datasets" / name)


def test_warmup_keeps_correct_rollouts_with_their_tokens(filled: Store) -> None:
    rows = built(filled, rows_per_update="5")
    assert rows.num_rows == 12, "6 prompts x 2 correct of 4"
    assert rows.column("row").to_pylist() == list(range(12))
    assert rows.column("update").to_pylist() == [1] * 5 + [2] * 5 + [3] * 2
    assert set(rows.column("reward").to_pylist()) == {1.0}
    stored = {
        r[0]: r[1:]
        for r in filled.sql(
            "SELECT rollout_id, response_token_ids, token_ids, logprobs, t.sampled_logprobs "
            "FROM rollouts JOIN topk AS t USING (rollout_id)"
        ).fetchall()
    }
    for row in rows.to_pylist():
        tokens, ids, logprobs, sampled = stored[row["rollout_id"]]
        assert row["response_token_ids"] == tokens
        assert row["topk_token_ids"] == ids
        assert row["topk_logprobs"] == logprobs
        assert row["sampled_logprobs"] == sampled
        assert len(ids) == len(tokens) * row["k"]


def test_warmup_parameters(filled: Store) -> None:
    assert built(filled, "all", correct_only="false").num_rows == 24
    assert built(filled, "one", max_per_prompt="1").num_rows == 6
    assert built(filled, "short", correct_only="false", max_response_tokens="4").num_rows < 24
    limited = built(filled, "limited", rows_per_update="2", updates="3")
    assert limited.num_rows == 6
    twice = built(filled, "twice", passes="2")
    ids = twice.column("rollout_id").to_pylist()
    assert sorted(ids[:12]) == sorted(ids[12:]) and ids[:12] != ids[12:]


def test_labels_count_only_where_a_reward_chose_rows(filled: Store) -> None:
    built(filled, "chosen")
    built(filled, "unchosen", correct_only="false")
    assert building.read_lock(filled, "chosen")["counts"]["labels"] == 6
    assert building.read_lock(filled, "unchosen")["counts"]["labels"] == 0


def test_order_depends_on_the_seed_alone(filled: Store, tmp_path: Path) -> None:
    first = built(filled, "a").column("rollout_id").to_pylist()
    assert built(filled, "b", seed=1).column("rollout_id").to_pylist() != first
    other = Store.init(tmp_path / "other")
    synthetic.fill(other, n_prompts=6, n=4, k=5)
    synthetic.fill(other, n_prompts=6, n=4, k=5, run="noise", name="noise", seed=3)
    assert built(other, "a").column("rollout_id").to_pylist() == first


def test_lock_rebuilds_after_the_store_has_grown(filled: Store) -> None:
    built(filled)
    synthetic.fill(filled, n_prompts=6, n=6, k=5, run="later")
    found = building.verify(filled, "w")
    assert found.matches
    assert building.read_lock(filled, "w")["counts"]["rows"] == 12


def test_a_copied_store_gives_the_same_fingerprint(filled: Store, tmp_path: Path) -> None:
    built(filled)
    shutil.copytree(filled.folder, tmp_path / "copy")
    copied = Store.open(tmp_path / "copy")
    shutil.rmtree(filled.folder)
    assert building.verify(copied, "w").matches


def test_building_again_changes_nothing_and_a_change_is_refused(filled: Store) -> None:
    built(filled)
    lock = (filled.root / "datasets/w/lock.json").read_text()
    built(filled)
    assert (filled.root / "datasets/w/lock.json").read_text() == lock
    with pytest.raises(DatasetError, match="dataset w exists already and differs"):
        built(filled, seed=1)
    assert filled.sql("SELECT count(*) FROM datasets").fetchall() == [(1,)]
    assert filled.sql("SELECT count(*) FROM dataset_rows").fetchall() == [(12,)]


def test_dropping_keeps_the_record(filled: Store) -> None:
    built(filled)
    building.drop(filled, "w")
    assert filled.sql("SELECT count(*) FROM dataset_rows").fetchall() == [(12,)]
    with pytest.raises(NotFoundError, match="no dataset 'w'"):
        building.read_lock(filled, "w")


def test_changed_rows_are_found(filled: Store) -> None:
    built(filled, copy_rows=True)
    path = filled.root / "datasets/w/part-00000.parquet"
    rows = pq.read_table(path)
    tokens = rows.column("response_token_ids").to_pylist()
    tokens[3][0] += 1
    index = rows.column_names.index("response_token_ids")
    changed = rows.set_column(index, "response_token_ids", pa.array(tokens, pa.list_(pa.int32())))
    pq.write_table(changed.cast(rows.schema), path)
    found = building.verify(filled, "w")
    assert found.rebuilt == found.locked != found.files


def test_the_reader_takes_what_the_builder_makes(filled: Store) -> None:
    rows = built(filled, rows_per_update="5")
    dataset = LockedDataset.open(filled.folder / "datasets" / "w")
    updates = list(dataset.updates())
    assert [u.n_rows for u in updates] == [5, 5, 2]
    values = np.concatenate([u.lists["topk_logprobs"][0] for u in updates])
    expected = rows.column("topk_logprobs").combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(values, expected)


def test_parameters_are_checked(filled: Store) -> None:
    with pytest.raises(InputError, match="needs parameter 'teacher'"):
        building.build(filled, "x", WARMUP, {})
    with pytest.raises(InputError, match="no parameter 'techer'; did you mean 'teacher'"):
        building.build(filled, "x", WARMUP, {"techer": "teacher"})
    with pytest.raises(InputError, match=r"passes='many' .* is not a whole number of at least 1"):
        built(filled, "x", passes="many")
    with pytest.raises(
        InputError, match=r"rows_per_update='0' .* is not a whole number of at least"
    ):
        built(filled, "x", rows_per_update="0")
    with pytest.raises(NotFoundError, match=r"no policy 'teachr' .*; did you mean 'teacher'"):
        building.build(filled, "x", WARMUP, {"teacher": "teachr"})
    with pytest.raises(InputError, match=r"dataset '\.\./x' is not a usable name"):
        built(filled, "../x")


def test_rollouts_of_two_tokenizers_do_not_mix(filled: Store) -> None:
    stranger = synthetic.policy("stranger", tokenizer="other")
    filled.commit({"policies": synthetic.table("policies", [stranger])})
    rollouts = filled.sql("SELECT * FROM raw.rollouts LIMIT 1").to_arrow_table()
    for name, value in {
        "rollout_id": "r",
        "policy_id": stranger["policy_id"],
        "run_id": "other",
    }.items():
        index = rollouts.column_names.index(name)
        rollouts = rollouts.set_column(index, name, pa.array([value]))
    filled.commit({"rollouts": rollouts})
    sql = "SELECT row_number() OVER () - 1 AS row, 1 AS update, rollout_id FROM rollouts"
    with pytest.raises(DatasetError, match="mixes rollouts of 2 tokenizers"):
        building.build(filled, "mixed", user_query(sql), {})


def test_buckets_on_disk_give_the_same_rows(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = built(filled, "whole", passes="3")
    lock = building.read_lock(filled, "whole")
    monkeypatch.setattr(gathering.fetch_rows, "__defaults__", (700, None))
    buckets = list(writing.tables(_plan(filled, passes="3")))
    assert len(buckets) > 3
    together = pa.concat_tables(buckets).combine_chunks()
    assert together.cast(whole.schema).equals(whole)
    monkeypatch.setattr(writing, "FILE_BYTES", 2000)
    split = built(filled, "split", copy_rows=True, passes="3")
    assert split.combine_chunks().equals(whole.combine_chunks())
    parts = building.read_lock(filled, "split")
    assert len(parts["files"]) > 2 and parts["fingerprint"] == lock["fingerprint"]
    assert sum(file["rows"] for file in parts["files"]) == 36
    assert building.verify(filled, "split").matches


def _plan(store: Store, **given: str) -> planning.Plan:
    from s2d_store.sql import parameters

    snap = store.snapshot()
    con = store.connect(snap.versions)
    values = parameters.resolve(WARMUP, {"teacher": "teacher", **given}, con)
    return planning.plan_dataset(con, snap, WARMUP, values | {"seed": 0})


def test_fingerprint_ignores_chunks_and_sees_everything_else() -> None:
    table = pa.table(
        {
            "a": pa.array([1, 2, 3], pa.int32()),
            "s": pa.array(["x", "", "zz"]),
            "l": pa.array([[1.5], [], [2.5, -0.0]], pa.list_(pa.float32())),
            "n": pa.array([None, 1, 2], pa.int64()),
            "b": pa.array([True, False, True]),
        }
    )

    def digest(*parts: pa.Table) -> str:
        fingerprint = Fingerprint(table.schema)
        for part in parts:
            fingerprint.update(part)
        return fingerprint.hexdigest()

    whole = digest(table)
    assert digest(table.slice(0, 1), table.slice(1)) == whole
    assert digest(pa.concat_tables([table.slice(0, 2), table.slice(2)])) == whole
    for name, values in {
        "a": [1, 2, 4],
        "s": ["x", "z", "z"],
        "l": [[1.5], [2.5], [-0.0]],
        "n": [0, 1, 2],
        "b": [True, True, True],
    }.items():
        index = table.column_names.index(name)
        other = table.set_column(index, name, pa.array(values, table.schema.field(name).type))
        assert digest(other) != whole, name
    zero = table.set_column(2, "l", pa.array([[1.5], [], [2.5, 0.0]], pa.list_(pa.float32())))
    assert digest(zero) != whole, "floats enter by their bytes"
    assert digest(table.take([1, 0, 2])) != whole
