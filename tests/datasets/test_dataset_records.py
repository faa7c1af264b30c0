"""A locked dataset in a notebook: its rows as records, Arrow and Polars, and short texts."""

from __future__ import annotations

import pytest

from s2d_store import open_dataset
from s2d_store.errors import InputError
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import synthetic


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("built") / "store")
    synthetic.fill(store)
    return store


@pytest.fixture(params=["by reference", "parts"])
def name(request: pytest.FixtureRequest, built: Store, cli: Cli) -> str:
    name = request.param.replace(" ", "-")
    options = ["--materialise"] if name == "parts" else []
    done = cli(
        "dataset", "build", name, "--query", "warmup", "-p", "teacher=teacher",
        "-p", "rows_per_update=4", *options, "--store", built.root,
    )  # fmt: skip
    assert done.code == 0, done.err
    return name


def test_rows_one_by_one_and_as_a_table(built: Store, name: str) -> None:
    dataset = open_dataset(built, name)
    rows = list(dataset)
    assert len(rows) == len(dataset) == 12
    assert [row["update"] for row in rows] == [1] * 4 + [2] * 4 + [3] * 4
    table = dataset.arrow()
    assert set(table.column_names) == set(dataset.columns)
    for name_of in ("response_token_ids", "rollout_id", "update"):
        found = table.column(name_of).to_pylist()
        given = [row[name_of] for row in rows]
        assert found == [g.tolist() if hasattr(g, "tolist") else g for g in given]
    stored = built.sql("SELECT rollout_id, response_token_ids FROM rollouts").fetchall()
    assert {(r["rollout_id"], tuple(r["response_token_ids"].tolist())) for r in rows} <= {
        (rollout, tuple(tokens)) for rollout, tokens in stored
    }
    with pytest.raises(InputError, match="has no column nope"):
        dataset.arrow(["nope"])


def test_as_a_polars_frame(built: Store, name: str) -> None:
    pytest.importorskip("polars")
    frame = open_dataset(built, name).pl(["rollout_id", "k"])
    assert frame.shape == (12, 2) and set(frame["k"]) == {5}


def test_short_texts(built: Store, name: str) -> None:
    dataset = open_dataset(built, name)
    assert repr(dataset) == f"LockedDataset('{name}', warmup, 12 rows in 3 updates)"
    assert dataset.lock.fingerprint in dataset._repr_html_()
    update = next(dataset.updates())
    assert len(repr(update)) < 400 and repr(update).startswith("UpdateRows(update=1, n_rows=4, ")
