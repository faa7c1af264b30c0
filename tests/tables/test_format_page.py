"""docs/format.md: what it says of reading a store without s2d is run here as it stands there."""

from __future__ import annotations

import re
import runpy
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.store import Store
from tests.support.rounded_topk import entries, table

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", PAGE, re.M)]
LOSSLESS, FLOATS = entries([4, 30, 1], [6, 9, 3], 5, 7), entries([8], [6], 6, None)


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any) -> dict[str, Any]:
    """The names of one example after it ran beside a store with rows in steps and in floats."""
    monkeypatch.chdir(tmp_path)
    Store.init("s2d-store").commit({"topk": table(LOSSLESS + FLOATS)})
    (code,) = (b for b in BLOCKS if b.strip().startswith(f"import {request.param}"))
    Path("example.py").write_text(code)
    return runpy.run_path("example.py")


@pytest.mark.parametrize("example", ["duckdb"], indirect=True)
def test_the_example_of_duckdb_reads_every_bit(example: dict[str, Any]) -> None:
    found = {row[0]: np.array(row[3], np.float32).reshape(-1, row[1]) for row in example["rows"]}
    same(found)


@pytest.mark.parametrize("example", ["numpy"], indirect=True)
def test_the_example_of_pyarrow_reads_every_bit(example: dict[str, Any]) -> None:
    same(example["found"])


def same(found: dict[str, np.ndarray]) -> None:
    wanted = {f"r{i:03d}": entry.logprobs for i, entry in enumerate(LOSSLESS + FLOATS)}
    assert found.keys() == wanted.keys()
    for name, logprobs_TK in wanted.items():
        assert found[name].shape == logprobs_TK.shape
        assert found[name].tobytes() == logprobs_TK.tobytes()
