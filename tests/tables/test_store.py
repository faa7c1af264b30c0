"""The store: atomic commits, identities, snapshots, recovery after a kill, a failing disk."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.errors import InputError, NotFoundError, StoreError
from s2d_store.maintenance.vacuum import vacuum
from s2d_store.schema import FORMAT_VERSION, TABLES
from s2d_store.store import Store
from s2d_store.tables import journal, snapshot
from tests.support import synthetic
from tests.support.processes import REPOSITORY


def count(store: Store, name: str) -> int:
    return int(store.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0])


def test_init_is_idempotent_and_open_needs_a_store(tmp_path: Path) -> None:
    first = Store.init(tmp_path / "s")
    manifest = (first.root / "s2d.json").read_text()
    Store.init(tmp_path / "s")
    assert (first.root / "s2d.json").read_text() == manifest
    with pytest.raises(NotFoundError, match=r"no store at .*nowhere"):
        Store.open(tmp_path / "nowhere")


def test_init_refuses_a_folder_with_other_things(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and not an s2d store"):
        Store.init(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_newer_format_is_refused(store: Store) -> None:
    manifest = json.loads((store.root / "s2d.json").read_text())
    manifest["format_version"] = FORMAT_VERSION + 1
    (store.root / "s2d.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=f"format version {FORMAT_VERSION + 1}"):
        Store.open(store.root)


def test_writing_twice_adds_nothing(store: Store) -> None:
    rows = synthetic.table("policies", [synthetic.policy("a"), synthetic.policy("b")])
    assert store.commit({"policies": rows}) == {"policies": 2}
    assert store.commit({"policies": rows}) == {"policies": 0}
    doubled = pa.concat_tables([rows, synthetic.table("policies", [synthetic.policy("c")] * 2)])
    assert store.commit({"policies": doubled}) == {"policies": 1}
    assert count(store, "policies") == 3


def test_rows_that_do_not_fit_are_refused(store: Store) -> None:
    rows = synthetic.table("policies", [synthetic.policy("a")])
    with pytest.raises(InputError, match="missing: \\['name'\\]"):
        store.commit({"policies": rows.drop_columns(["name"])})
    null = rows.set_column(1, "name", pa.array([None], pa.string()))
    with pytest.raises(InputError, match="Casting field 'name' with null values"):
        store.commit({"policies": null})
    assert count(store, "policies") == 0


def test_partition_values_cannot_leave_the_store(store: Store, tmp_path: Path) -> None:
    synthetic.fill(store)
    rollouts = store.sql("SELECT * FROM raw.rollouts LIMIT 1").to_arrow_table()
    evil = rollouts.set_column(
        rollouts.column_names.index("run_id"), "run_id", pa.array(["../../evil"])
    )
    evil = evil.set_column(0, "rollout_id", pa.array(["new"]))
    with pytest.raises(InputError, match="not a usable name"):
        store.commit({"rollouts": evil})


def test_files_are_partitioned_and_split_bytes(store: Store) -> None:
    synthetic.fill(store)
    (file,) = store.snapshot().files["topk"]
    assert "/scorer_policy_id=" in file
    metadata = pq.ParquetFile(file).metadata
    encodings = {}
    for i in range(metadata.num_columns):
        column = metadata.row_group(0).column(i)
        encodings[column.path_in_schema.split(".")[0]] = (column.encodings, column.compression)
    for name in ("token_ids", "logprobs", "sampled_logprobs"):
        assert "BYTE_STREAM_SPLIT" in encodings[name][0]
        assert encodings[name][1] == "ZSTD"


def test_polars_reads_the_same_table(store: Store) -> None:
    synthetic.fill(store)
    frame = pl.scan_delta(str(store.root / "tables" / "rollouts")).collect()
    assert sorted(frame["rollout_id"]) == sorted(
        r[0] for r in store.sql("SELECT rollout_id FROM rollouts").fetchall()
    )


def test_snapshots_by_version_and_time(store: Store) -> None:
    store.commit({"policies": synthetic.table("policies", [synthetic.policy("a")])})
    old = store.snapshot()
    time.sleep(0.02)
    moment = snapshot.parse_as_of(_now())
    time.sleep(0.02)
    store.commit({"policies": synthetic.table("policies", [synthetic.policy("b")])})
    query = "SELECT count(*) FROM policies"
    assert store.sql(query).fetchall() == [(2,)]
    assert store.sql(query, as_of=old.versions).fetchall() == [(1,)]
    assert store.sql(query, as_of=moment).fetchall() == [(1,)]
    with pytest.raises(NotFoundError, match="table policies has no version 99"):
        store.sql(query, as_of={"policies": 99})
    with pytest.raises(InputError, match="neither a time nor table versions"):
        snapshot.parse_as_of("yesterday")


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def test_a_kill_between_two_tables_is_rolled_forward(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table topk is committed, rollouts is not: nothing shows until the next writer finishes it."""
    real = journal._append

    def dies(root: Path, name: str, files: list[journal.NewFile]) -> int:
        if name == "rollouts":
            raise SystemExit("killed")
        return real(root, name, files)

    monkeypatch.setattr(journal, "_append", dies)
    with pytest.raises(SystemExit):
        synthetic.fill(store)
    monkeypatch.undo()
    assert count(store, "raw.topk") == 24
    assert count(store, "teacher_topk") == 0
    assert count(store, "rollouts") == 0
    assert journal.recover(store.root) == 1
    assert count(store, "rollouts") == 24
    assert count(store, "teacher_topk") == 24
    assert journal.recover(store.root) == 0
    assert count(store, "raw.topk") == 24


def test_a_live_writers_commit_is_left_alone(store: Store) -> None:
    file = journal.NewFile("policies", "x.parquet", 1, 1, {}, 0)
    with journal._entry(store.root, [file]) as path:
        assert journal.recover(store.root) == 0
        assert path.exists()
        path.unlink()


def test_vacuum_sweeps_orphans_and_keeps_every_version(store: Store) -> None:
    synthetic.fill(store)
    committed = store.snapshot().files["rollouts"][0]
    orphan = Path(committed).with_name("orphan.parquet")
    orphan.write_bytes(b"partial")
    assert vacuum(store).files == 0, "a live writer may own a young file"
    assert vacuum(store, dry_run=True, grace_s=-1).files == 1
    assert orphan.exists()
    swept = vacuum(store, grace_s=-1)
    assert (swept.files, swept.bytes) == (1, 7)
    assert not orphan.exists()
    assert Path(committed).exists()


_FULL_DISK = """
import resource, sys
sys.path.insert(0, {repository!r})
from tests.support import synthetic
from s2d_store.errors import StoreError
from s2d_store.store import Store
store = Store.open({root!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    synthetic.fill(store, run="second", name="second")
except StoreError as error:
    print(error)
    sys.exit(3)
"""


def test_a_full_disk_loses_nothing_stored(store: Store) -> None:
    synthetic.fill(store)
    before = count(store, "rollouts")
    files = sorted(store.folder.rglob("*.parquet"))
    script = _FULL_DISK.format(repository=str(REPOSITORY), root=str(store.root))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "cannot write to the store" in done.stdout or "did not go through" in done.stdout
    assert "fix: free disk space" in done.stdout
    assert count(store, "rollouts") == before
    assert sorted(store.folder.rglob("*.parquet")) == files, "partial files are removed"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_run_has_one_writer(store: Store) -> None:
    script = (
        "import sys; from s2d_store.store import Store\n"
        f"with Store.open({str(store.root)!r}).run_lock('r'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match="run r is being worked on"), store.run_lock("r"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with store.run_lock("r"):
        pass


def test_sql_sees_nothing_outside_the_store(store: Store, tmp_path: Path) -> None:
    import duckdb

    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    con = store.connect()
    for text in (f"FROM read_csv('{secret}')", f"COPY (SELECT 1) TO '{tmp_path}/out.csv'"):
        with pytest.raises(duckdb.PermissionException):
            con.execute(text)
    with pytest.raises(duckdb.Error):
        con.execute("SET enable_external_access = true")
    assert store.connect(unsafe=True).sql(f"FROM read_csv('{secret}')").fetchall() == [(1,)]


def test_every_table_has_docs_and_a_key_of_its_columns() -> None:
    for table in TABLES.values():
        assert set(table.key) <= set(table.column_names)
        assert set(table.partition_by) <= set(table.column_names)
        assert all(column.doc for column in table.columns)


def test_a_stores_folder_may_have_a_space_in_its_name(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "a b")
    synthetic.fill(store, n_prompts=2, n=1)
    assert count(store, "rollouts") == len(store.sql("FROM rollouts").fetchall()) == 2


def test_a_store_behind_a_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "real folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real folder")
    store = Store.init(tmp_path / "link" / "store")
    synthetic.fill(store)
    rows = store.sql("SELECT count(*) FROM rollouts").fetchall()
    assert Store.open(tmp_path / "real folder" / "store").snapshot().files == store.snapshot().files
    assert rows == Store.open(store.root).sql("SELECT count(*) FROM rollouts").fetchall() != [(0,)]
