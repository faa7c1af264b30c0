from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.datasets import read, row_groups
from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import DatasetError, InputError, NotFoundError
from tests.support.locked_datasets import bigram_rows, write_locked

# Uneven on purpose: updates span row groups and parts, and one row group holds several updates.
UPDATES = [1] * 5 + [2] * 1 + [3] * 9 + [4] * 2 + [5] * 6


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return bigram_rows(UPDATES)


@pytest.fixture
def folder(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    return write_locked(tmp_path / "small", rows, rows_a_part=8, rows_a_group=3)


def row_lists(update: UpdateRows, column: str) -> list[list[Any]]:
    values, offsets = update.lists[column]
    assert offsets[0] == 0 and offsets[-1] == len(values)
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


@pytest.mark.parametrize("rows_a_part,rows_a_group", [(1000, 1000), (8, 3), (1, 1), (7, 1000)])
def test_updates_give_every_row_once_in_order_however_it_was_cut(
    tmp_path: Path, rows: list[dict[str, Any]], rows_a_part: int, rows_a_group: int
) -> None:
    folder = write_locked(
        tmp_path / "cut", rows, rows_a_part=rows_a_part, rows_a_group=rows_a_group
    )
    updates = list(LockedDataset.open(folder).updates())
    assert [u.update for u in updates] == [1, 2, 3, 4, 5]
    assert [u.n_rows for u in updates] == [5, 1, 9, 2, 6]
    assert np.concatenate([u.scalars["row"] for u in updates]).tolist() == list(range(len(rows)))
    for column in ("prompt_token_ids", "response_token_ids", "topk_token_ids"):
        read = [values for u in updates for values in row_lists(u, column)]
        assert read == [list(row[column]) for row in rows]
    logprobs = [v for u in updates for values in row_lists(u, "topk_logprobs") for v in values]
    np.testing.assert_allclose(logprobs, np.concatenate([r["topk_logprobs"] for r in rows]), 1e-6)
    assert updates[0].scalars["rollout_id"][0] == "rollout-0"
    assert updates[0].lists["topk_logprobs"][0].dtype == np.float32


@pytest.mark.parametrize("start", [1, 2, 3, 4, 5, 6])
def test_start_gives_the_same_updates_as_reading_from_the_first(folder: Path, start: int) -> None:
    dataset = LockedDataset.open(folder)
    columns = ["row", "response_token_ids"]
    later = [u for u in dataset.updates(columns=columns) if u.update >= start]
    resumed = list(dataset.updates(start, columns))
    assert [u.update for u in resumed] == [u.update for u in later]
    for a, b in zip(resumed, later, strict=True):
        assert a.scalars["row"].tolist() == b.scalars["row"].tolist()
        assert row_lists(a, "response_token_ids") == row_lists(b, "response_token_ids")


def test_start_reads_no_row_group_that_ends_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = []
    original = pq.ParquetFile.read_row_group

    def spy(self: pq.ParquetFile, index: int, **options: object) -> object:
        table = original(self, index, **options)
        groups.append(table["update"].to_pylist())
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    list(LockedDataset.open(folder).updates(start=5))
    assert groups and all(group[-1] >= 5 for group in groups)


def test_start_opens_few_of_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = bigram_rows([update for update in range(1, 65) for _ in range(2)])
    folder = write_locked(tmp_path / "many", rows, rows_a_part=2)
    dataset = LockedDataset.open(folder)
    opened = []
    for name in ("ParquetFile", "read_metadata"):
        original = getattr(pq, name)

        def spy(
            path: Path, original: Callable[..., object] = original, **options: object
        ) -> object:
            opened.append(path.name)
            return original(path, **options)

        monkeypatch.setattr(pq, name, spy)
    assert [u.update for u in dataset.updates(start=63)] == [63, 64]
    assert len(opened) <= 9 and opened[-2:] == ["part-00062.parquet", "part-00063.parquet"]


def test_row_groups_without_statistics_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = LockedDataset.open(folder)
    monkeypatch.setattr(read, "_last_updates", lambda metadata: [inf] * metadata.num_row_groups)
    assert [u.update for u in dataset.updates(start=4)] == [4, 5]


def test_one_update_is_assembled_ahead_and_no_more(tmp_path: Path) -> None:
    rows = bigram_rows([update for update in range(1, 41) for _ in range(2)])
    folder = write_locked(tmp_path / "long", rows, rows_a_group=2)
    read_groups: list[int] = []
    original = pq.ParquetFile.read_row_group

    def spy(self: pq.ParquetFile, index: int, **options: object) -> object:
        read_groups.append(index)
        return original(self, index, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read_row_group", spy)
        for update in LockedDataset.open(folder).updates(columns=["row"]):
            time.sleep(0.001)
            # One row group an update: u + 1 waits, u + 2 showed where it ends, u + 3 is read ahead.
            assert len(read_groups) <= update.update + 3
    assert read_groups == list(range(40))


def test_an_update_within_one_row_group_is_a_view(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    folder = write_locked(tmp_path / "whole", rows)
    first, second, *_ = LockedDataset.open(folder).updates(columns=["sampled_logprobs"])
    a, b = first.lists["sampled_logprobs"][0], second.lists["sampled_logprobs"][0]
    assert not a.flags.owndata
    assert b.__array_interface__["data"][0] == a.__array_interface__["data"][0] + a.nbytes


def test_only_the_columns_asked_for_are_read(folder: Path) -> None:
    update = next(LockedDataset.open(folder).updates(columns=["prompt_token_ids", "k"]))
    assert set(update.lists) == {"prompt_token_ids"} and set(update.scalars) == {"k"}
    assert (
        update.lengths("prompt_token_ids").tolist()
        == np.diff(update.lists["prompt_token_ids"][1]).tolist()
    )


def test_unknown_column_names_those_there_are(folder: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)no column reward.*topk_logprobs"):
        next(LockedDataset.open(folder).updates(columns=["reward"]))


def test_start_below_one_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="start is 0"):
        next(LockedDataset.open(folder).updates(start=0))


def test_abandoning_the_iteration_leaves_no_thread(folder: Path) -> None:
    import threading

    updates = LockedDataset.open(folder).updates()
    next(updates)
    del updates
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_missing_lock(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="s2d dataset build"):
        LockedDataset.open(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format_version": 3}'])
def test_lock_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "lock.json").write_text(text)
    with pytest.raises(DatasetError, match=r"lock\.json"):
        LockedDataset.open(folder)


def test_lock_without_a_key_names_it(folder: Path) -> None:
    lock = json.loads((folder / "lock.json").read_text())
    del lock["fingerprint"]
    (folder / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(DatasetError, match="'fingerprint'"):
        LockedDataset.open(folder)


def test_missing_part(folder: Path) -> None:
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(DatasetError, match=r"part-00001\.parquet is missing"):
        LockedDataset.open(folder)


def test_part_of_another_size(folder: Path) -> None:
    with (folder / "part-00001.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DatasetError, match=r"part-00001.*bytes(?s:.*)s2d dataset verify small"):
        LockedDataset.open(folder)


def test_part_that_is_not_parquet(folder: Path) -> None:
    part = folder / "part-00001.parquet"
    part.write_bytes(b"\0" * part.stat().st_size)
    with pytest.raises(DatasetError, match="not the file that was locked"):
        LockedDataset.open(folder)


def test_part_with_another_row_count(folder: Path) -> None:
    lock = json.loads((folder / "lock.json").read_text())
    lock["files"][0]["rows"] += 1
    (folder / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(DatasetError, match="has 8 rows"):
        LockedDataset.open(folder)


def test_updates_out_of_order_are_damage(tmp_path: Path) -> None:
    folder = write_locked(tmp_path / "mixed", bigram_rows([1, 3, 2]))
    with pytest.raises(DatasetError, match=r"(?s)update 2 follows update 3"):
        list(LockedDataset.open(folder).updates())


def test_nulls_are_damage(tmp_path: Path) -> None:
    rows = bigram_rows([1, 1])
    rows[1]["response_token_ids"] = None
    write_rows = [dict(row) for row in rows]
    write_rows[1]["response_token_ids"] = []
    folder = write_locked(tmp_path / "nulls", write_rows)
    part = folder / "part-00000.parquet"
    schema = pq.read_schema(part)
    pq.write_table(type(pq.read_table(part)).from_pylist(rows, schema=schema), part)
    lock = json.loads((folder / "lock.json").read_text())
    lock["files"][0]["bytes"] = part.stat().st_size
    (folder / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(DatasetError, match="response_token_ids has nulls"):
        list(LockedDataset.open(folder).updates())


def test_reading_imports_only_pyarrow_and_numpy() -> None:
    code = (
        "import sys, s2d_store.datasets.read\n"
        "names = {m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(n for n in names if not n.startswith('_')))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n{code}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names = set(json.loads(done.stdout.replace("'", '"')))
    assert {"numpy", "pyarrow", "s2d_store"} <= names
    assert not names & {"torch", "transformers", "vllm", "duckdb", "deltalake", "polars", "pandas"}


def test_a_row_group_is_kept_only_for_rows_that_are_still_to_come(
    folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = row_groups.RowGroups._read

    def counted(self: row_groups.RowGroups, *args: Any) -> pa.Table:
        read.append(1)
        return original(self, *args)

    monkeypatch.setattr(row_groups.RowGroups, "_read", counted)
    update = next(LockedDataset.open(folder).updates())
    for choices, reads in (([[0], [1, 2]], 1), ([[3, 4]], 1), ([[0, 1, 2]], 0)):
        read.clear()
        for chosen, part in update.parts([np.array(choice) for choice in choices]):
            expected = [list(rows[i]["topk_token_ids"]) for i in chosen.tolist()]
            assert row_lists(part, "topk_token_ids") == expected
        assert len(read) == reads
    whole = next(LockedDataset.open(folder).updates())
    for _ in range(2):
        read.clear()
        list(whole.parts([np.array([0, 1, 2])]))
        assert len(read) == 1
