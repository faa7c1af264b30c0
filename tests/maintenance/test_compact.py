"""Compaction: rows unchanged, versions and readers go on, conflicts and kills lose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import queries
from cli.recipes import run_stage
from s2d_store.datasets.build import build, verify
from s2d_store.errors import InputError, StoreError
from s2d_store.maintenance import compact as compacting
from s2d_store.maintenance.compact import compact, plan
from s2d_store.runs import record
from s2d_store.schema import TABLES
from s2d_store.sql import new_rows
from s2d_store.store import Store
from s2d_store.tables import delta_commit, delta_log, journal, parquet_writer, table_state
from s2d_store.tables.snapshot import table_path
from s2d_store.tables.table_state import LiveFile
from tests.conftest import Cli
from tests.support import made_stores, synthetic

COMPACTED = ("rollouts", "rewards", "topk")


def fill(store: Store, round_: int) -> None:
    """One more commit of each of two runs: rollouts, rewards and top-k that were not there."""
    for run in ("gen", "more"):
        synthetic.fill(store, n_prompts=3, n=2 * (round_ + 1), run=run, seed=round_)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Six commits to two partitions of rollouts; dataset `early` pins the first four."""
    store = Store.init(tmp_path_factory.mktemp("made") / "store")
    for round_ in range(2):
        fill(store, round_)
    build(store, "early", queries.catalog()["warmup"], {"teacher": "teacher"})
    fill(store, 2)
    return store


@pytest.fixture
def small(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


def contents(store: Store) -> dict[str, list[Any]]:
    """Every row of every table with the bytes of its floats, by key."""
    con = store.connect()
    found = {}
    for name, declared in TABLES.items():
        order = ", ".join(declared.key)
        rows = con.sql(f"SELECT * FROM raw.{name} ORDER BY {order}").to_arrow_table()
        found[name] = [repr(row) for row in rows.to_pylist()]
        for column in rows.columns:
            if str(column.type) in ("float", "double", "list<element: float>"):
                flat = column.combine_chunks()
                values = flat.flatten() if hasattr(flat, "flatten") else flat
                found[name].append(values.to_numpy(zero_copy_only=False).tobytes())
    return found


def n_files(store: Store) -> dict[str, int]:
    files = store.snapshot().files
    return {name: len(files[name]) for name in COMPACTED}


def run(store: Store, **options: Any) -> dict[str, tuple[int, int]]:
    """Compact; small files and files made of them, of each table that had any."""
    return {t.table: (t.files, t.new_files) for t in compact(store, **options) if t.files}


def on_disk(store: Store) -> set[Path]:
    return {p for p in store.folder.glob("tables/**/*.parquet") if "_delta_log" not in p.parts}


def test_rows_stay_and_files_become_one_a_partition(small: Store) -> None:
    before = contents(small)
    assert n_files(small) == {"rollouts": 6, "rewards": 6, "topk": 6}
    assert run(small, dry_run=True)["topk"] == (6, 0)
    assert n_files(small)["topk"] == 6, "a dry run changes nothing"
    done = run(small)
    assert done | {"rollouts": (6, 2), "rewards": (6, 1), "topk": (6, 1)} == done
    assert n_files(small) == {"rollouts": 2, "rewards": 1, "topk": 1}
    assert contents(small) == before
    (topk,) = small.snapshot().files["topk"]
    with pq.ParquetFile(topk) as file:
        assert file.num_row_groups == 1
        encodings = {
            file.metadata.row_group(0).column(i).path_in_schema: file.metadata.row_group(0).column(
                i
            )
            for i in range(file.metadata.num_columns)
        }
    assert "BYTE_STREAM_SPLIT" in encodings["logprobs.list.element"].encodings


def test_a_second_run_does_nothing(small: Store) -> None:
    assert run(small)
    versions = small.snapshot().versions
    assert run(small) == {}
    assert small.snapshot().versions == versions


def test_outputs_fill_up_and_stay(store: Store) -> None:
    """Of several outputs all but the last are full, so that they are never small again."""
    for round_ in range(6):
        synthetic.fill(store, n=2 * (round_ + 1), k=40, seed=round_)
    before = contents(store)

    def sizes() -> list[int]:
        return [
            file.size for file in table_state.newest(table_path(store.root, "topk")).files.values()
        ]

    target = 2 * max(sizes()) + 500
    ((_, (n_before, n_after)),) = run(store, tables=["topk"], target_bytes=target).items()
    assert n_before == 6 and n_after == 2
    assert sum(size < target for size in sizes()) == 1
    assert run(store, tables=["topk"], target_bytes=target) == {}
    assert contents(store) == before


def test_large_inputs_are_read_piece_by_piece(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_writer, "ROW_GROUP_BYTES", 4_000)
    before = contents(small)
    run(small, tables=["topk"])
    (topk,) = small.snapshot().files["topk"]
    with pq.ParquetFile(topk) as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert len(groups) > 2
    assert contents(small) == before


def test_a_plan_takes_small_files_by_partition_and_leaves_a_lone_one() -> None:
    def file(path: str, size: int, partition: str) -> LiveFile:
        return LiveFile(path, size, 0, (("p", partition),))

    a, b, c = file("a", 5, "x"), file("b", 99, "x"), file("c", 5, "x")
    d = file("d", 5, "y")
    assert plan([a, b, c, d], small_bytes=10) == [[a, c]]
    assert plan([a, b, c, d], small_bytes=5) == []


def test_readers_and_old_versions_go_on(small: Store) -> None:
    query = "SELECT count(*), sum(response_tokens) FROM graded_rollouts"
    reader, versions = small.connect(), small.snapshot().versions
    before = small.sql(query).fetchall()
    run(small)
    assert reader.sql(query).fetchall() == before
    assert small.sql(query, as_of=versions).fetchall() == before
    assert verify(small, "early").matches


def test_datasets_built_before_and_after_are_the_same(small: Store) -> None:
    warmup = queries.catalog()["warmup"]
    before = build(small, "before", warmup, {"teacher": "teacher"})
    run(small)
    after = build(small, "after", warmup, {"teacher": "teacher"})
    assert after["fingerprint"] == before["fingerprint"]
    assert after["versions"]["topk"] > before["versions"]["topk"]


def test_a_file_that_another_compaction_replaced_is_left_to_it(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one finishes between this one's reading and its commit."""
    before, real = contents(small), compacting.replace_files
    others: list[dict[str, tuple[int, int]]] = []

    def late(*arguments: Any) -> bool:
        if not others:
            monkeypatch.setattr(compacting, "replace_files", real)
            others.append(run(small, tables=["topk"]))
        return real(*arguments)

    monkeypatch.setattr(compacting, "replace_files", late)
    assert run(small, tables=["topk"]) == {}
    assert others == [{"topk": (6, 1)}]
    assert contents(small) == before
    live = set(small.snapshot().files["topk"])
    old = {
        str(table_path(small.root, "topk") / p)
        for p in delta_log.file_lifetimes(table_path(small.root, "topk"))
    }
    written = {str(p) for p in on_disk(small) if "topk" in p.parts}
    assert written == live | old, "what the slower one wrote is removed"


def test_a_commit_that_is_quicker_is_kept(small: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer takes the version that the compaction was about to."""
    before, real = small.sql("SELECT count(*) FROM topk").fetchall()[0][0], delta_commit.commit
    rounds = iter((3,))

    def slow(*arguments: Any) -> bool:
        round_ = next(rounds, None)
        if round_ is not None:
            fill(small, round_)
        return real(*arguments)

    monkeypatch.setattr(delta_commit, "commit", slow)
    assert run(small, tables=["topk"]) == {"topk": (6, 1)}
    assert n_files(small)["topk"] == 1 + 2
    assert small.sql("SELECT count(*) FROM topk").fetchall()[0][0] == before + 12
    assert small.sql(
        "SELECT count(*) FROM (SELECT DISTINCT rollout_id, k FROM topk)"
    ).fetchall() == [(before + 12,)]


@pytest.mark.parametrize("point", ["writing", "committing", "checkpoint"])
def test_a_kill_leaves_the_old_files_or_the_new(
    small: Store, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    before = contents(small)
    where = {
        "writing": (parquet_writer, "rows_per_group"),
        "committing": (delta_commit, "commit"),
        "checkpoint": (delta_commit, "checkpoint"),
    }

    def dies(*_: object) -> None:
        raise SystemExit("killed")

    monkeypatch.setattr(*where[point], dies)
    with pytest.raises(SystemExit):
        run(small, tables=["topk"])
    monkeypatch.undo()
    assert n_files(small)["topk"] == (1 if point == "checkpoint" else 6)
    assert contents(small) == before
    run(small)
    assert n_files(small) == {"rollouts": 2, "rewards": 1, "topk": 1}
    assert contents(small) == before


def test_a_dead_writers_file_is_not_added_again_once_compacted(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It committed its top-k, which a compaction that was under way rewrites, and died."""
    real = journal._append

    def dies(root: Path, name: str, files: list[Any]) -> int:
        if name == "rollouts":
            raise SystemExit("killed")
        return real(root, name, files)

    monkeypatch.setattr(journal, "_append", dies)
    with pytest.raises(SystemExit):
        fill(small, 3)
    monkeypatch.undo()
    count = "SELECT count(*), count(DISTINCT rollout_id) FROM raw.topk"
    before = small.sql(count).fetchall()
    monkeypatch.setattr(journal, "recover", lambda root: 0)
    assert run(small, tables=["topk"]) == {"topk": (7, 1)}
    monkeypatch.undo()
    assert journal.recover(small.root) == 1
    assert small.sql(count).fetchall() == before
    ((orphans,),) = small.sql(
        "SELECT count(*) FROM raw.topk ANTI JOIN raw.rollouts USING (rollout_id)"
    ).fetchall()
    assert orphans == 0


def test_a_damaged_file_replaces_nothing(small: Store) -> None:
    file = Path(small.snapshot().files["topk"][0])
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"\.parquet cannot be read"):
        run(small, tables=["topk"])
    assert n_files(small)["topk"] == 6


def test_the_command_says_what_it_did(small: Store, cli: Cli) -> None:
    store = ("--store", small.root)
    assert "topk: 6 small files" in cli("compact", "--dry-run", *store).out
    done = cli("compact", "topk", *store)
    assert done.code == 0, done.err
    assert done.out.startswith("topk: 6 small files (") and ") -> 1 (" in done.out
    assert cli("compact", "topk", *store).out == "no small files to compact\n"
    wrong = cli("compact", "topks", *store)
    assert (wrong.code, wrong.out) == (1, "")
    assert "no table topks" in wrong.err and "rollouts" in wrong.err
    assert "no size" in cli("compact", "--target-mb", 0, *store).err
    with pytest.raises(InputError, match="no table nothing"):
        list(compact(small, ["nothing"]))


def test_a_look_up_opens_only_files_that_may_hold_the_key(store: Store) -> None:
    policies = TABLES["policies"]
    for name in "abcdef":
        store.commit({"policies": synthetic.table("policies", [synthetic.policy(name)])})
    stored = synthetic.table("policies", [synthetic.policy("c")])
    new = synthetic.table("policies", [synthetic.policy("new")])
    assert len(store.snapshot().files["policies"]) == 6
    (file,) = new_rows.candidates(store.root, policies, stored)
    assert pq.read_table(file).column("name").to_pylist() == ["c"]
    assert new_rows.candidates(store.root, policies, new) == ()
    list(compact(store))
    assert new_rows.candidates(store.root, policies, stored) == store.snapshot().files["policies"]
    assert store.commit({"policies": stored}) == {"policies": 0}
    assert store.commit({"policies": new}) == {"policies": 1}


def test_a_round_compacts_the_tables_that_every_step_reads(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        with record.record_run(small, f"r{number}", "round", {"n": number}):
            pass
    before, files = contents(small), small.snapshot().files
    assert len(files["runs"]) == 6
    monkeypatch.setattr(run_stage, "MAX_FILES", 6)
    run_stage._compact_small_files(small)
    assert small.snapshot().files == files
    monkeypatch.setattr(run_stage, "MAX_FILES", 5)
    run_stage._compact_small_files(small)
    after = small.snapshot().files
    assert len(after["runs"]) == 1 and after["rollouts"] == files["rollouts"]
    assert contents(small) == before
