"""A tiny store of the format stays readable; one of an older format can be migrated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from s2d_store.datasets.build import verify
from s2d_store.datasets.read import LockedDataset
from s2d_store.encoding import topk
from s2d_store.maintenance.migrate import migrate
from s2d_store.schema import FORMAT_VERSION
from s2d_store.store import Store

FORMATS = Path(__file__).parents[1] / "formats"
VERSIONS = sorted(path.name for path in FORMATS.iterdir())


def test_the_current_version_is_kept() -> None:
    assert f"v{FORMAT_VERSION}" in VERSIONS, "make one as CONTRIBUTING.md says"


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A recorded store; one of an older format, migrated."""
    shutil.copytree(FORMATS / request.param, tmp_path / "store")
    if request.param != f"v{FORMAT_VERSION}":
        assert migrate(tmp_path / "store") > 0
    return Store.open(tmp_path / "store")


def test_every_row_is_read(recorded: Store) -> None:
    counts = json.loads((recorded.root / "counts.json").read_text())
    con = recorded.connect()
    found = {name: con.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in counts}
    assert found == counts
    mean = con.sql("SELECT avg(reward) FROM graded_rollouts").fetchall()[0][0]
    assert mean == pytest.approx(0.5)


def test_topk_is_whole(recorded: Store) -> None:
    table = recorded.sql("SELECT * FROM topk ORDER BY rollout_id").to_arrow_table()
    for entry in topk.from_columns(table):
        assert entry.token_ids.shape == entry.logprobs.shape
        assert (np.diff(entry.logprobs, axis=1) <= 0).all()
        assert (np.exp(entry.logprobs).sum(axis=1) <= 1.001).all()


def test_a_locked_dataset_is_read_and_rebuilds(recorded: Store) -> None:
    opened = LockedDataset.open(recorded.folder / "datasets" / "warmup")
    rows = sum(update.n_rows for update in opened.updates())
    assert rows == opened.lock.counts["rows"] > 0
    assert verify(recorded, "warmup").matches


def test_it_can_be_appended_to(recorded: Store) -> None:
    from tests.support import synthetic

    made = synthetic.policy("another")
    assert recorded.commit({"policies": synthetic.table("policies", [made])}) == {"policies": 1}


def test_version_2_is_kept_with_rows_in_steps_and_in_floats() -> None:
    files = (FORMATS / "v2" / "tables" / "topk").rglob("*.parquet")
    nulls = [pq.read_table(file).column("logit_steps").null_count for file in files]
    assert sorted(nulls) == [0, 4]
