"""Rows that wait on disk for their place: any number of buckets, few open files, few bytes."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import queries
from s2d_store.datasets.build import build, read_lock
from s2d_store.encoding import topk_codec
from s2d_store.errors import StoreError
from s2d_store.store import Store
from s2d_store.tables import fetch_rows as fetching
from s2d_store.tables import parquet_writer
from s2d_store.tables.spill import Buckets
from tests.support import synthetic
from tests.support.dataset_rows import read

GIVEN = {"teacher": "teacher", "correct_only": "false", "passes": "8"}


@pytest.fixture
def filled(store: Store) -> Store:
    synthetic.fill(store, n_prompts=6, n=6, k=5)
    return store


@pytest.fixture
def few_files() -> Iterator[None]:
    """At most 64 open files in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_more_buckets_than_a_process_may_open_files(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(filled, "whole", queries.catalog()["warmup"], GIVEN)
    monkeypatch.setattr(fetching.fetch_rows, "__defaults__", (300, None))
    monkeypatch.setattr(Buckets.__init__, "__defaults__", (2_000,))
    buckets: set[str] = set()
    taken = Buckets.take

    def counted(self: Buckets, bucket: str) -> Iterator[pa.Table]:
        buckets.add(bucket)
        return taken(self, bucket)

    monkeypatch.setattr(Buckets, "take", counted)
    build(filled, "copied", queries.catalog()["warmup"], GIVEN, copy_rows=True)
    assert len(buckets) > 128, "two tables"
    root = filled.root
    assert isinstance(root, Path)
    assert read(root / "datasets" / "copied").equals(read(root / "datasets" / "whole"))
    assert {p.name for p in (root / "datasets").iterdir()} == {"whole", "copied"}


def test_a_bucket_gives_its_rows_back_in_order(tmp_path: Path) -> None:
    buckets = Buckets(tmp_path, waiting_bytes=100)
    for n in range(40):
        buckets.add(
            f"b{n % 3}", pa.table({"n": [n], "l": pa.array([[n] * n], pa.list_(pa.int32()))})
        )
    assert list(tmp_path.iterdir()), "some wait on disk"
    for b in range(3):
        rows = pa.concat_tables(list(buckets.take(f"b{b}"))).to_pylist()
        assert rows == [{"n": n, "l": [n] * n} for n in range(b, 40, 3)]
    assert not list(tmp_path.iterdir())


def test_waiting_rows_take_few_bytes(tmp_path: Path) -> None:
    """Top-k of k = 64 as bfloat16 logits give it, in the store's encoding: at most 175 a token."""
    rng = np.random.default_rng(0)
    rows, tokens, k = 4, 2_000, 64
    steps = np.sort(np.abs(rng.normal(0, 1_600, (rows * tokens, k))).astype(np.int32), axis=1)
    steps[:, 0] = 0
    tops = (-rng.integers(1, 4_000, (rows * tokens, 1)) * 2.0**-12).astype(np.float32)
    logprobs = (tops - (steps // 128 * 128) * np.float32(2.0**-12)).astype(np.float32)
    ids = (49_152 * rng.random((rows * tokens, k)) ** 3).astype(np.int32)

    def lists(values: np.ndarray, per_row: int) -> pa.ListArray:
        cuts = pa.array(np.arange(rows + 1, dtype=np.int32) * per_row)
        return pa.ListArray.from_arrays(cuts, pa.array(values.ravel()))

    stored = topk_codec.encode(
        pa.table(
            {
                "k": pa.array([k] * rows, pa.int32()),
                "token_ids": lists(ids, tokens * k),
                "logprobs": lists(logprobs, tokens * k),
                "sampled_logprobs": lists(logprobs[:, 0].copy(), tokens),
            }
        )
    )
    buckets = Buckets(tmp_path, waiting_bytes=1)
    buckets.add("b", stored)
    spilled = (tmp_path / "b").stat().st_size / (rows * tokens)
    kept = tmp_path / "stored.parquet"
    size = parquet_writer.write(kept, [stored], stored.schema) / (rows * tokens)
    assert spilled <= 175 and spilled <= size * fetching.SPILL_MARGIN
    (back,) = buckets.take("b")
    assert back.equals(stored)


def test_a_disk_that_is_too_small_is_known_before_anything_is_written(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(filled.folder)
    full = type(usage)(usage.total, usage.total - 1_000, 1_000)
    monkeypatch.setattr("s2d_store.tables.spill.shutil.disk_usage", lambda folder: full)
    with pytest.raises(StoreError, match=r"needs about \d+\.\d MB in .* has 0\.0 MB free") as error:
        build(filled, "w", queries.catalog()["warmup"], GIVEN, copy_rows=True)
    assert "--spill DIR" in error.value.fix and "without --materialise" in error.value.fix
    assert not (filled.root / "datasets" / "w").exists()
    build(filled, "w", queries.catalog()["warmup"], GIVEN)
    assert read_lock(filled, "w")["form"] == "reference", "that copies nothing"


def test_rows_wait_where_they_are_sent(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching.fetch_rows, "__defaults__", (3_000, None))
    monkeypatch.setattr(Buckets.__init__, "__defaults__", (1,))
    written: list[Path] = []
    write = Buckets._write

    def spied(self: Buckets, bucket: str) -> None:
        written.append(self._folder)
        write(self, bucket)

    monkeypatch.setattr(Buckets, "_write", spied)
    elsewhere = tmp_path / "large-disk"
    query = queries.catalog()["warmup"]
    build(filled, "w", query, GIVEN, copy_rows=True, spill=elsewhere)
    assert written and {folder.parent for folder in written} == {elsewhere}
    assert not list(elsewhere.iterdir())


def test_rows_read_where_they_lie_are_the_same(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = queries.catalog()["warmup"]
    monkeypatch.setattr(fetching.fetch_rows, "__defaults__", (700, None))
    dealt = build(filled, "dealt", query, GIVEN, copy_rows=True)
    monkeypatch.setattr(fetching, "DIRECT_ROWS", 1_000)
    monkeypatch.setattr(Buckets, "add", None)
    direct = build(filled, "direct", query, GIVEN, copy_rows=True)
    assert direct["content"] == dealt["content"]
