"""A user's SQL reads the store: no other file, no network, no setting, and it writes nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from s2d_store.errors import QueryError, StoreError
from s2d_store.rollouts.selection import select_prompts
from s2d_store.sql import connection, read_only
from s2d_store.store import Store
from s2d_store.tables import table_state
from tests.conftest import Cli
from tests.support import synthetic


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("filled") / "store")
    synthetic.fill(store)
    return store


@pytest.fixture
def unchanged(filled: Store) -> Iterator[None]:
    """Whatever the test does, no file of the store comes, goes or changes."""
    before = _files(filled.folder)
    yield
    assert _files(filled.folder) == before


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


WRITES = [
    "WITH a AS (COPY (SELECT 1) TO '{store}/s2d.json') FROM a",
    "with a as materialized (copy (SELECT 1) to '{store}/s2d.json') SELECT * FROM a",
    "WITH b AS (SELECT 1), a AS (COPY b TO '{store}/s2d.json') FROM a",
    "WITH a AS (COPY (SELECT 1) TO '{store}/s2d.json') PIVOT rollouts ON role USING count(*)",
    "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{store}/s2d.json') FROM a",
    "/* EXPLAIN SELECT 1 -- */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{store}/s2d.json'",
    "EXPLAIN /* x */ ANALYZE COPY (SELECT 1) TO '{store}/s2d.json'",
    "EXPLAIN (FORMAT json, ANALYZE) COPY (SELECT 1) TO '{store}/s2d.json'",
    "WITH a AS (INSERT INTO raw.updates SELECT * FROM raw.updates RETURNING *) FROM a",
    "WITH a AS (DELETE FROM raw.updates RETURNING *) FROM a",
    "WITH a AS (TRUNCATE raw.updates) FROM a",
    "TRUNCATE raw.updates",
    "EXPORT DATABASE '{store}/export'",
    "IMPORT DATABASE '{store}'",
    "PRAGMA import_database('{store}')",
    "COPY FROM DATABASE memory TO other",
    "PRAGMA enable_profiling",
    "PRAGMA profile_output = '{store}/s2d.json'",
    "SET VARIABLE a = 1",
    "CALL enable_logging(storage_path = '{store}')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "UPDATE EXTENSIONS",
    "CONNECT 'x'",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "ATTACH '{store}/other.db' AS other",
    "CREATE MACRO mine() AS 1",
    "CHECKPOINT",
]


@pytest.mark.parametrize("text", WRITES)
@pytest.mark.usefixtures("unchanged")
def test_no_form_of_writing_is_let_in(filled: Store, text: str) -> None:
    with pytest.raises(QueryError, match=r"SQL cannot [A-Z ]+ here(.|\n)*--unsafe|query failed"):
        filled.sql(text.format(store=filled.root))


READS = [
    "SELECT count(*) AS n FROM rollouts WHERE run_id = $run",
    "FROM rollouts LIMIT 1",
    "WITH a AS (SELECT max(update) AS update FROM updates) FROM a",
    "SELECT 1 AS copy, 'DELETE FROM x' AS \"insert\" -- COPY this",
    "SELECT replace('insert', 'copy', 'merge')",
    "SELECT trunc(1.5), sample_index AS truncate FROM rollouts",
    "WITH RECURSIVE a(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM a WHERE i < 3) SELECT i FROM a",
    "PIVOT (SELECT role, sample_index FROM rollouts) ON role USING count(*)",
    "PIVOT (SELECT role, sample_index AS update FROM rollouts) ON role USING max(update)",
    "UNPIVOT (SELECT sample_index, round FROM rollouts) ON sample_index, round",
    "DESCRIBE rollouts",
    "SUMMARIZE rollouts",
    "SHOW TABLES",
    "VALUES (1), (2)",
    "EXPLAIN SELECT 1",
    " -- why?\nEXPLAIN ANALYZE SELECT 1",
    "EXPLAIN (FORMAT json) SELECT 1",
    "SELECT 1; SELECT 2",
]


@pytest.mark.parametrize("text", READS)
def test_every_form_of_reading_is(filled: Store, text: str) -> None:
    given = {"run": "gen"} if "$run" in text else None
    relation = filled.sql(text, given)
    assert relation is not None and relation.columns


OUTSIDE = [
    "FROM read_text('/proc/self/environ')",
    "FROM read_csv('/etc/passwd')",
    "FROM '/etc/passwd.csv'",
    "FROM read_blob('{store}/../other.csv')",
    "FROM read_csv('file://{outside}')",
    "FROM read_json('{outside}')",
    "FROM parquet_metadata('{outside}')",
    "FROM sniff_csv('{outside}')",
    "FROM glob('/etc/*')",
    "FROM read_duckdb('{outside}')",
    "FROM read_csv('https://example.invalid/x.csv')",
    "FROM read_parquet('s3://bucket/x.parquet')",
    "FROM duckdb_secrets()",
    "FROM duckdb_extensions()",
]


@pytest.mark.parametrize("text", OUTSIDE)
def test_nothing_outside_is_read_by_query_or_condition(
    filled: Store, tmp_path: Path, text: str
) -> None:
    (tmp_path / "other.csv").write_text("a\n42\n")
    text = text.format(store=filled.root, outside=tmp_path / "other.csv")
    with (
        pytest.raises(QueryError, match=r"reaches outside the store(.|\n)*--unsafe"),
        connection.errors(),
    ):
        filled.sql(text).fetchall()
    with pytest.raises(QueryError, match="--where"):
        select_prompts(filled, f"EXISTS (SELECT 1 FROM ({text}))")


def test_an_unsafe_connection_may(filled: Store, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    copy = f"WITH a AS (COPY (SELECT 7 AS b) TO '{out}') FROM a"
    assert cli("query", copy, "--store", filled.root).code == 1 and not out.exists()
    assert cli("query", copy, "--unsafe", "--store", filled.root).code == 0
    assert out.read_text() == "b\n7\n"
    assert filled.connect(unsafe=True).sql(f"FROM read_csv('{out}')").fetchall() == [(7,)]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM enable_logging()",
        "SELECT * FROM enable_profiling(save_location = '{store}/profile.json')",
        "SET allowed_directories = ['/']",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "SET threads = 1",
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_settings_are_locked_even_without_the_check(filled: Store, text: str) -> None:
    with pytest.raises(duckdb.Error, match="configuration has been locked"):
        filled.connect().execute(text.format(store=filled.root))


CONDITIONS = [
    "true) OR (true",
    "true) UNION ALL SELECT prompt_id, messages, answer FROM prompts WHERE (true",
    "true; COPY (SELECT 1) TO '{store}/s2d.json'",
    "true) -- ",
    "split = 'train' LIMIT 1",
    "split, source",
    "/* open",
]


@pytest.mark.parametrize("text", CONDITIONS)
@pytest.mark.usefixtures("unchanged")
def test_a_condition_is_one_expression(filled: Store, text: str) -> None:
    with pytest.raises(QueryError, match=r"--where .* does not work on prompts"):
        select_prompts(filled, text.format(store=filled.root))


def test_a_condition_may_be_any_expression(filled: Store) -> None:
    every = len(select_prompts(filled))
    for text in (
        "split = 'train' OR true -- all",
        "prompt_id IN (SELECT prompt_id FROM rollouts)",
        "CASE WHEN length(split) > 99 THEN false ELSE true END",
    ):
        assert len(select_prompts(filled, text)) == every


def test_a_dataset_query_from_a_file_is_held_to_it(filled: Store, cli: Cli, tmp_path: Path) -> None:
    for body, says in (
        ("FROM read_csv('/etc/passwd')", "reaches outside the store"),
        (f"WITH a AS (COPY (SELECT 1) TO '{tmp_path}/x.csv') FROM a", "SQL cannot COPY here"),
    ):
        path = tmp_path / "mine.sql"
        path.write_text(f"-- question: q\n-- grain: g\n-- params: none\n-- columns: a\n{body}\n")
        done = cli("dataset", "build", "d", "--query", path, "--store", filled.root)
        assert done.code == 1 and says in done.err and "Traceback" not in done.err
        audited = cli("audit", path, "--store", filled.root)
        assert audited.code != 0 and says in audited.out + audited.err
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("path", ["file://{outside}", "{outside}", "../../../{name}"])
def test_a_delta_log_leads_nowhere_else(tmp_path: Path, path: str) -> None:
    """A store from somebody else, whose log names a file of the reader's."""
    store = Store.init(tmp_path / "store")
    synthetic.fill(store)
    outside = tmp_path / "outside.parquet"
    shutil.copy(store.snapshot().files["prompts"][0], outside)
    log = sorted((store.folder / "tables/prompts/_delta_log").glob("*.json"))[-1]
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        action.get("commitInfo", {}).pop("s2d", None)  # as a stranger writes it
        if "add" in action:
            action["add"]["path"] = path.format(outside=outside, name=outside.name)
    log.write_text("\n".join(map(json.dumps, actions)))
    table_state.forget()  # As another process sees it.
    with pytest.raises(StoreError, match="files of table prompts cannot be read"):
        store.connect()


def test_spill_files_are_for_nobody_else(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spill = tmp_path / f"s2d-spill-{os.getuid()}"
    assert filled.sql("SELECT current_setting('temp_directory')").fetchall() == [(str(spill),)]
    assert spill.stat().st_mode & 0o777 == 0o700
    spill.chmod(0o755)
    filled.connect()
    assert spill.stat().st_mode & 0o777 == 0o700


def test_a_spill_folder_of_somebody_else_is_refused(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    spill = tmp_path / f"s2d-spill-{os.getuid()}"
    spill.symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match=r"cannot hold the spill files(.|\n)*TMPDIR"):
        filled.connect()
    spill.unlink()
    spill.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    spill.rename(tmp_path / "s2d-spill-12345")
    with pytest.raises(StoreError, match="belongs to somebody else"):
        filled.connect()


def test_the_check_is_of_the_text_alone() -> None:
    assert read_only.only_reads("SELECT 1") == "SELECT 1"
    with pytest.raises(QueryError, match="the query failed"), connection.errors():
        read_only.check_condition("1) OR (1")
