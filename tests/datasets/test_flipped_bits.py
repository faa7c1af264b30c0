"""What is trained is what was locked: a flipped bit is an error, or changes nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import queries
from s2d_store.datasets.build import build
from s2d_store.errors import S2DError
from s2d_store.store import Store
from tests.support import synthetic
from tests.support.dataset_rows import read

FLIPS_PER_FILE = 40


@pytest.fixture
def filled(store: Store) -> Store:
    synthetic.fill(store, n_prompts=8, n=4, k=8, run="run-0", seed=0)
    return store


def files_read(store: Store, form: str) -> list[Path]:
    """The files that a dataset's rows come from, in either form."""
    lock = build(
        store,
        "w",
        queries.catalog()["warmup"],
        {"teacher": "teacher", "rows_per_update": "8"},
        copy_rows=form == "parts",
    )
    assert lock["form"] == form
    beside = [store.root / "datasets" / "w" / file["path"] for file in lock["files"]]
    of_store = {
        store.root / file
        for source in lock.get("sources", {}).values()
        for file in (*source["files"], *source.get("ranks", ()))
    }
    return [Path(str(path)) for path in (*beside, *sorted(of_store))]


@pytest.mark.parametrize("form", ["parts", "reference"])
def test_no_flipped_bit_trains_in_silence(filled: Store, form: str) -> None:
    files = files_read(filled, form)
    folder = Path(str(filled.root)) / "datasets" / "w"
    right, rng, found, silent = read(folder), random.Random(0), 0, []
    for path in files:
        data = path.read_bytes()
        # The pages, and apart from them the end, where the footer lies.
        places = [rng.randrange(len(data)) for _ in range(FLIPS_PER_FILE)]
        places += [
            rng.randrange(max(0, len(data) - 4000), len(data)) for _ in range(FLIPS_PER_FILE)
        ]
        for place in places:
            changed = bytearray(data)
            changed[place] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            try:
                if not read(folder).equals(right):
                    silent.append((path.name, place))
            except S2DError:
                found += 1
        path.write_bytes(data)
    assert not silent
    assert found >= len(files) * FLIPS_PER_FILE, "most flips are told"
    assert read(folder).equals(right)
