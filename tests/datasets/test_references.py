"""Locks by reference: the rows of a dataset, named where they lie in the store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import queries
from s2d_store.datasets import row_groups
from s2d_store.datasets.build import build, drop, materialise, read_lock, verify
from s2d_store.datasets.lock_file import with_checksum
from s2d_store.datasets.read import LockedDataset, UpdateRows
from s2d_store.errors import DatasetError
from s2d_store.maintenance.compact import compact
from s2d_store.maintenance.restore_dataset import restore
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.store import Store
from tests.support import synthetic
from tests.support.dataset_rows import read

WARMUP = queries.catalog()["warmup"]
GIVEN = {"teacher": "teacher", "rows_per_update": "5", "passes": "2"}


@pytest.fixture
def filled(store: Store) -> Store:
    for part in range(3):
        synthetic.fill(store, n_prompts=6, n=2 * part + 2, k=5, run=f"run-{part}", seed=part)
    return store


def folder(store: Store, name: str = "w") -> Path:
    assert isinstance(store.root, Path)
    return store.root / "datasets" / name


def test_both_forms_are_one_dataset(filled: Store) -> None:
    lock = build(filled, "w", WARMUP, GIVEN)
    assert lock["form"] == "reference" and "content" not in lock
    assert sorted(p.name for p in folder(filled).iterdir()) == ["lock.json", "rows.parquet"]
    named = read(folder(filled))
    assert verify(filled, "w").matches
    copied = materialise(filled, "w")
    assert (copied["form"], copied["dataset_id"]) == ("parts", lock["dataset_id"])
    assert copied["fingerprint"] == lock["fingerprint"] and "sources" not in copied
    assert read(folder(filled)).equals(named)
    assert pq.read_table(folder(filled) / "part-00000.parquet").cast(named.schema).equals(named)
    assert verify(filled, "w").matches
    assert materialise(filled, "w") == copied, "a second time changes nothing"
    assert build(filled, "w", WARMUP, GIVEN) == copied, "nor does building it again"
    drop(filled, "w")
    direct = build(filled, "w", WARMUP, GIVEN, copy_rows=True)
    assert direct["dataset_id"] == lock["dataset_id"] and direct["content"] == copied["content"]


def test_compaction_moves_rows_and_changes_no_dataset(filled: Store) -> None:
    before = build(filled, "w", WARMUP, GIVEN)
    rows = read(folder(filled))
    assert any(done.files for done in list(compact(filled)))
    after = build(filled, "v", WARMUP, GIVEN)
    assert after["fingerprint"] == before["fingerprint"]
    assert after["sources"] != before["sources"]
    assert read(folder(filled, "v")).equals(rows)
    vacuum(filled, older_than_s=-1)
    assert read(folder(filled)).equals(rows), "what a lock names stays"
    assert verify(filled, "w").matches and verify(filled, "v").matches
    drop(filled, "w")
    assert vacuum(filled, older_than_s=-1).replaced_files > 0
    assert read(folder(filled, "v")).equals(rows)


def test_a_moved_store_keeps_its_datasets(filled: Store, tmp_path: Path) -> None:
    build(filled, "w", WARMUP, GIVEN)
    rows = read(folder(filled))
    moved = tmp_path / "elsewhere" / "store"
    moved.parent.mkdir()
    shutil.move(filled.folder, moved)
    assert read(moved / "datasets" / "w").equals(rows)
    assert verify(Store.open(moved), "w").matches


def test_a_folder_without_its_store_says_what_is_missing(filled: Store, tmp_path: Path) -> None:
    build(filled, "w", WARMUP, GIVEN)
    shutil.copytree(folder(filled), tmp_path / "alone" / "datasets" / "w")
    with pytest.raises(DatasetError, match=r"(?s)is missing.*s2d dataset materialise w"):
        LockedDataset.open(tmp_path / "alone" / "datasets" / "w")


def test_a_flipped_bit_in_a_file_of_the_store_is_found(filled: Store) -> None:
    lock = build(filled, "w", WARMUP, GIVEN)
    path = filled.root / lock["sources"]["topk"]["files"][0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="a file that dataset w reads is damaged") as error:
        verify(filled, "w")
    assert lock["sources"]["topk"]["files"][0] in str(error.value)


def test_changed_light_rows_are_found(filled: Store) -> None:
    build(filled, "w", WARMUP, GIVEN)
    path = folder(filled) / "rows.parquet"
    rows = pq.read_table(path)
    pq.write_table(rows.take(list(reversed(range(rows.num_rows)))), path)
    found = verify(filled, "w")
    assert found.rebuilt == found.locked != found.files


def test_rows_that_are_named_in_other_places_are_found(filled: Store) -> None:
    build(filled, "w", WARMUP, GIVEN)
    path = folder(filled) / "rows.parquet"
    rows = pq.read_table(path)
    index = rows.column_names.index("topk_position")
    swapped = rows.column("topk_position").to_numpy().copy()
    swapped[[0, 1]] = swapped[[1, 0]] if swapped[0] != swapped[1] else swapped[[1, 0]] + 1
    pq.write_table(rows.set_column(index, "topk_position", [swapped]), path)
    found = verify(filled, "w")
    assert found.locked == found.files and not found.matches


def test_restore_finds_the_rows_where_they_lie_now(filled: Store) -> None:
    lock = build(filled, "w", WARMUP, GIVEN)
    rows = read(folder(filled))
    list(compact(filled))
    (filled.root / lock["sources"]["topk"]["files"][0]).unlink()
    done = restore(filled, "w")
    assert "it pins the newest versions now" in done[0]
    assert read(folder(filled)).equals(rows) and verify(filled, "w").matches
    assert read_lock(filled, "w")["dataset_id"] == lock["dataset_id"]


@pytest.mark.parametrize("path", ["../../etc/passwd.parquet", "/x.parquet", "tables/../a.parquet"])
def test_a_lock_that_names_files_outside_the_tables_is_refused(filled: Store, path: str) -> None:
    lock = build(filled, "w", WARMUP, GIVEN)
    lock["sources"]["topk"]["files"][0] = path
    (folder(filled) / "lock.json").write_text(json.dumps(with_checksum(lock)))
    with pytest.raises(DatasetError, match="reads the Parquet files of its store's tables alone"):
        LockedDataset.open(folder(filled))


def test_rollouts_made_again_are_no_longer_the_locked_ones(filled: Store) -> None:
    """The same ids, made at another time: an engine may have sampled other tokens."""
    lock = build(filled, "w", WARMUP, GIVEN)
    drop(filled, "w")
    recorded = json.dumps(lock | {"facts": "0" * 32})
    from s2d_store.datasets import catalog

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "recorded", lambda store, dataset_id: [recorded])
        with pytest.raises(DatasetError, match="recorded with the same rows and other tokens"):
            build(filled, "w", WARMUP, GIVEN)


def read_in_pieces(store: Store, columns: list[str]) -> list[dict[str, list[float]]]:
    """Rows as a rank reads its share: some rows of each update, in an order of its own."""
    found: list[dict[str, list[float]]] = []
    for rows in LockedDataset.open(folder(store)).updates(columns=columns):
        share = np.arange(rows.n_rows)[::-1]
        for chosen, part in rows.parts([share[:1], share[1:]] if len(share) > 1 else [share]):
            assert part.n_rows == len(chosen) and not part.waiting
            found += _rows(part)
        assert set(rows.waiting) == set(columns) - {"k"}, "no more than these was read"
    return found


def _rows(part: UpdateRows) -> list[dict[str, list[float]]]:
    def of_row(name: str, row: int) -> list[float]:
        values, offsets = part.lists[name]
        assert values.flags.writeable
        return list(values[offsets[row] : offsets[row + 1]])

    return [{name: of_row(name, i) for name in part.lists} for i in range(part.n_rows)]


def test_a_share_is_read_alone(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "CACHE_BYTES", 1)
    build(filled, "w", WARMUP, GIVEN)
    columns = ["response_token_ids", "topk_token_ids", "topk_logprobs", "k"]
    pieces = read_in_pieces(filled, columns)
    by_update: dict[int, list[dict[str, list[float]]]] = {}
    for row in read(folder(filled)).select(["update", *columns[:3]]).to_pylist():
        by_update.setdefault(row.pop("update"), []).insert(0, row)
    assert pieces == [row for rows in by_update.values() for row in rows]


def test_reading_loads_neither_pandas_nor_the_store(filled: Store) -> None:
    """pandas alone takes longer to import than a first update to be read."""
    build(filled, "w", WARMUP, GIVEN)
    build(filled, "p", WARMUP, GIVEN, copy_rows=True)
    code = (
        "import sys\n"
        "from s2d_store.datasets.read import LockedDataset\n"
        "for folder in sys.argv[1:]:\n"
        "    for rows in LockedDataset.open(folder).updates():\n"
        "        assert all(len(rows.lists[name][0]) for name in rows.lists)\n"
        "print(sorted({'pandas', 'duckdb', 'deltalake', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder(filled)), str(folder(filled, "p"))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


def test_lengths_are_known_without_reading(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    build(filled, "w", WARMUP, GIVEN)
    rows = next(LockedDataset.open(folder(filled)).updates())
    with monkeypatch.context() as patch:
        patch.setattr(row_groups.RowGroups, "fetch", None)
        known = {name: rows.lengths(name).tolist() for name in rows.waiting}
    assert known == {name: np.diff(rows.lists[name][1]).tolist() for name in known}
    assert "topk_token_ids" in known and "prompt_token_ids" in known


def test_a_ragged_top_k_reads_as_one_padded_to_k(store: Store) -> None:
    """Of a mass below 1, missing entries have id -1 and no probability, in both forms."""
    synthetic.fill(store, n_prompts=4, n=2, k=5, mass=0.6)
    counts = {
        row[0]: row[1]
        for row in store.sql("SELECT rollout_id, counts FROM topk").fetchall()
        if row[1] is not None
    }
    assert any(n < 5 for row in counts.values() for n in row)
    build(store, "w", WARMUP, GIVEN)
    build(store, "p", WARMUP, GIVEN, copy_rows=True)
    found = []
    for name in ("w", "p"):
        kept = {}
        for rows in LockedDataset.open(folder(store, name)).updates():
            ids, offsets = rows.lists["topk_token_ids"]
            logprobs, _ = rows.lists["topk_logprobs"]
            assert np.array_equal(ids == -1, np.isneginf(logprobs))
            for i, rollout in enumerate(rows.scalars["rollout_id"].tolist()):
                own = ids[offsets[i] : offsets[i + 1]].reshape(-1, 5)
                kept[rollout] = own
                wanted = counts.get(rollout, [5] * len(own))
                assert (own >= 0).sum(axis=1).tolist() == wanted
        found.append(kept)
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(ids, found[1][name]) for name, ids in found[0].items())
    assert verify(store, "w").matches and verify(store, "p").matches
