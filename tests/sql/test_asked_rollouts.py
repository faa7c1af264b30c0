"""Which rollouts SQL asks for by id: taken where it is plain, and never where others may matter."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from s2d_store.errors import StoreError
from s2d_store.sql import asked_rollouts
from s2d_store.sql.asked_rollouts import Asked
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores, small_commits

A, B = "00000000000000aa", "00000000000000bb"
FROM_ONE = Asked((A,), ("rollouts",))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("made") / "store")
    for i in range(3):
        small_commits.commit(store, "writer", i)
    return store


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT * FROM rollouts WHERE rollout_id = '{A}'",
        f"from Main.Rollouts where '{A}' = ROLLOUT_ID;",
        f"SELECT count(*) FROM rollouts AS r WHERE r.rollout_id = '{A}' AND (role='x' OR round=1)",
        f"SELECT role FROM rollouts WHERE round = 0 AND role = 'x' AND rollout_id IN ('{A}')",
        "SELECT * FROM rollouts WHERE rollout_id = $id",
    ],
)
def test_a_plain_condition_is_taken(text: str) -> None:
    assert asked_rollouts.asked(text, {"id": A}) == FROM_ONE


def test_several_ids_and_views_of_several_tables() -> None:
    text = f"SELECT kl FROM tokens WHERE rollout_id IN ('{A}', $id) ORDER BY position"
    assert asked_rollouts.asked(text, {"id": B}) == Asked((A, B), ("rollouts", "topk"))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT * FROM rollouts",
        "SELECT * FROM rollouts WHERE rollout_id = ",
        f"SELECT * FROM rollouts WHERE rollout_id = '{A}' OR role = 'x'",
        f"SELECT * FROM rollouts WHERE NOT rollout_id = '{A}'",
        f"SELECT * FROM rollouts WHERE rollout_id <> '{A}'",
        f"SELECT * FROM rollouts WHERE rollout_id NOT IN ('{A}')",
        f"SELECT * FROM rollouts WHERE rollout_id >= '{A}'",
        f"SELECT * FROM rollouts WHERE rollout_id = '{A}' COLLATE NOCASE",
        f"SELECT * FROM rollouts WHERE lower(rollout_id) = '{A}'",
        f"SELECT * FROM rollouts WHERE rollout_id IN ('{A}', role)",
        "SELECT * FROM rollouts WHERE rollout_id = $other",
        "SELECT * FROM rollouts WHERE rollout_id = 12",
        f"SELECT 'x' AS rollout_id FROM rollouts WHERE rollout_id = '{A}'",
        f"SELECT * FROM rollouts AS t(rollout_id, b) WHERE rollout_id = '{A}'",
        f"SELECT * FROM rollouts TABLESAMPLE 10% WHERE rollout_id = '{A}'",
        f"SELECT * FROM rollouts WHERE rollout_id = '{A}' USING SAMPLE 5",
        f"SELECT (SELECT count(*) FROM rollouts) FROM rollouts WHERE rollout_id = '{A}'",
        f"SELECT * FROM rollouts WHERE rollout_id = '{A}' UNION ALL SELECT * FROM rollouts",
        f"WITH x AS (FROM rollouts) SELECT * FROM x WHERE rollout_id = '{A}'",
        f"SELECT * FROM rollouts JOIN rewards USING (rollout_id) WHERE rollout_id = '{A}'",
        f"SELECT count(*) FILTER (rollout_id = '{A}') FROM rollouts",
        f"SELECT * FROM rollouts QUALIFY rollout_id = '{A}'",
        f"SELECT * FROM (FROM rollouts) WHERE rollout_id = '{A}'",
        f"SELECT * FROM verdicts WHERE rollout_id = '{A}'",
        f"SELECT * FROM read_parquet('x') WHERE rollout_id = '{A}'",
        f"SELECT response_tokens_of('{A}') FROM rollouts WHERE rollout_id = '{A}'",
        f"SELECT * FROM raw.rollouts WHERE rollout_id = '{A}'",
        f"SELECT 1; SELECT * FROM rollouts WHERE rollout_id = '{A}'",
        f"EXPLAIN SELECT * FROM rollouts WHERE rollout_id = '{A}'",
    ],
)
def test_what_may_need_other_rows_is_left_alone(text: str) -> None:
    assert asked_rollouts.asked(text, {"id": A}) is None


@pytest.mark.parametrize("view", asked_rollouts.VIEWS)
def test_rows_are_those_of_all_files(store: Store, view: str) -> None:
    ids = [name for (name,) in store.sql("SELECT rollout_id FROM rollouts").fetchall()]
    every_file = store.connect(text=view)
    for chosen in ([A, ids[0]], ids[2:5], [ids[0], "no hash"]):
        quoted = ", ".join(f"'{name}'" for name in chosen)
        text = f"SELECT * FROM {view} WHERE rollout_id IN ({quoted}) ORDER BY ALL"
        whole = every_file.sql(text).fetchall()
        assert store.sql(text).fetchall() == whole
        assert len({str(row) for row in whole}) == len(whole) > 0


def test_only_the_files_that_may_hold_them_are_opened(
    store: Store, tmp_path: Path, cli: Cli
) -> None:
    copy = made_stores.copy(store, tmp_path / "store")
    ids = [name for (name,) in copy.sql("SELECT rollout_id FROM rollouts").fetchall()]
    text = "SELECT role FROM rollouts WHERE rollout_id = "
    held = copy.sql(f"{text}'{ids[0]}'").fetchall()
    for file in copy.snapshot().files["rollouts"]:
        if ids[0] not in pq.read_table(file, columns=["rollout_id"])["rollout_id"].to_pylist():
            Path(file).write_bytes(b"")
    assert len(held) == 1
    assert copy.sql(f"{text}$id", {"id": ids[0]}).fetchall() == held
    assert copy.sql(f"{text}'{ids[0]}'").fetchall() == held
    done = cli("query", f"{text}'{ids[0]}'", "--format", "csv", "--store", copy.root)
    assert done.out.split() == ["role", held[0][0]]
    # Which of the two depends on whether the first file of all is one of those emptied.
    with pytest.raises((StoreError, duckdb.Error), match="too small to be a Parquet file"):
        copy.sql("SELECT count(*) FROM rollouts").fetchall()
