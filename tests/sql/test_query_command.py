"""`s2d query`: SQL, files and named queries in; tables and files out; the store stays as it is."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.errors import QueryError
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores, synthetic

Query = Callable[..., Result]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """24 synthetic rollouts of 6 prompts, half of them right, with top-k."""
    store = Store.init(tmp_path_factory.mktemp("filled") / "store")
    synthetic.fill(store)
    return store


@pytest.fixture
def query(cli: Cli, filled: Store) -> Query:
    return lambda *options: cli("query", *options, "--store", filled.root)


def test_sql_prints_a_table(query: Query) -> None:
    done = query("SELECT role, count(*) AS n, avg(reward) AS r FROM graded_rollouts GROUP BY 1")
    assert (done.code, done.err) == (0, "")
    assert [line.split() for line in done.out.splitlines()] == [
        ["role", "n", "r"],
        ["teacher", "24", "0.5"],
    ]
    assert "(no rows)" in query("FROM rollouts WHERE role = 'student'").out
    done = query("SELECT sample_index FROM rollouts", "--max-rows", 5)
    assert "first 5 rows" in done.out and len(done.out.splitlines()) == 7


def test_what_a_model_wrote_does_not_steer_the_terminal(query: Query) -> None:
    done = query("SELECT 'a' || chr(27) || ']52;c;eA==' || chr(7) || chr(155) || 'é' AS text")
    assert done.out.splitlines()[1].strip() == r"a\x1b]52;c;eA==\x07\x9bé"
    done = query("SELECT '=1+1' || chr(27) AS text, -1 AS n", "--format", "csv")
    assert done.out == "text,n\n'=1+1\\x1b,-1\n"


def test_parameters_are_bound_never_pasted(query: Query) -> None:
    text = "SELECT count(*) AS n FROM rollouts WHERE run_id = $run"
    assert query(text, "--param", "run=gen", "--format", "csv").out == "n\n24\n"
    evil = "run=gen' OR 'a' = 'a"
    assert query(text, "--param", evil, "--format", "csv").out == "n\n0\n"
    done = query(text)
    assert done.code == 1 and "error: the query failed" in done.err and "run" in done.err


def test_a_named_query_and_a_file_with_parameters(query: Query, tmp_path: Path) -> None:
    done = query("pass_rate", "--param", "purpose=train", "--format", "json")
    (row,) = json.loads(done.out)
    assert (row["policy"], row["rollouts"], row["pass_rate"]) == ("teacher", 24, 0.5)
    plain = tmp_path / "count.sql"
    plain.write_text("SELECT count(*) AS n FROM rollouts WHERE sample_index < $most::INT")
    assert query(plain, "-p", "most=1", "--format", "csv").out == "n\n6\n"
    mine = tmp_path / "mine.sql"
    mine.write_text(
        "-- question: how many of a policy?\n-- grain: one row\n-- params:\n"
        "--   policy: POLICY -- whose\n--   least: BIGINT = 2 -- from which sample on\n"
        "-- columns: n\nSELECT count(*) AS n FROM rollouts "
        "WHERE policy_id = $policy AND sample_index >= $least\n"
    )
    assert query(mine, "-p", "policy=teacher", "--format", "csv").out == "n\n12\n"
    for options, says in (
        ((), "query mine needs parameter 'policy'"),
        (("-p", "policy=teacher", "-p", "leest=1"), "did you mean 'least'?"),
        (("-p", "policy=teacher", "-p", "least=few"), "least='few' of query mine is not a BIGINT"),
        (("-p", "policy=teecher"), "no policy 'teecher' in this store; did you mean 'teacher'?"),
        (("-p", "policy"), "--param 'policy' is not NAME=VALUE"),
        (("-p", "least=1", "-p", "least=2"), "--param least is given twice"),
    ):
        done = query(mine, *options)
        assert done.code == 1 and says in done.err, done.err


def test_results_go_to_files_of_many_formats(query: Query, tmp_path: Path) -> None:
    text = (
        "SELECT rollout_id, sample_index, response_token_ids, NULL::INT AS empty, 'a,\"b' AS text "
        "FROM rollouts ORDER BY 1"
    )
    kinds = ("csv", "json", "jsonl", "arrow", "parquet")
    paths = {kind: tmp_path / f"rows.{kind}" for kind in kinds}
    for path in paths.values():
        done = query(text, "--output", path)
        assert (done.code, done.out, done.err) == (0, "", "")
    table = pq.read_table(paths["parquet"])
    rows = table.to_pylist()
    assert len(rows) == 24 and table.column_names[0] == "rollout_id"
    with pa.memory_map(str(paths["arrow"])) as file:
        assert pa.ipc.open_file(file).read_all().to_pylist() == rows
    assert json.loads(paths["json"].read_text()) == rows
    assert [json.loads(line) for line in paths["jsonl"].read_text().splitlines()] == rows
    read = list(csv.DictReader(io.StringIO(paths["csv"].read_text())))
    assert [(r["rollout_id"], r["empty"], r["text"]) for r in read] == [
        (row["rollout_id"], "", 'a,"b') for row in rows
    ]
    for options, says in (
        (("--format", "parquet"), "format parquet is binary"),
        (("--format", "yaml"), "output format 'yaml' is unknown"),
        (("--output", tmp_path / "rows.xlsx"), "output format 'xlsx' is unknown"),
        (("--output", tmp_path / "none" / "rows.csv"), "cannot write"),
    ):
        done = query(text, *options)
        assert done.code == 1 and says in done.err and "Traceback" not in done.err


def test_as_of_reads_an_older_snapshot(cli: Cli, store: Store) -> None:
    store.commit({"policies": synthetic.table("policies", [synthetic.policy("a")])})
    version = store.snapshot().versions["policies"]
    time.sleep(0.01)
    moment = datetime.now(UTC).replace(tzinfo=None).isoformat()
    time.sleep(0.01)
    store.commit({"policies": synthetic.table("policies", [synthetic.policy("b")])})
    usual = ("SELECT string_agg(name, '' ORDER BY name) AS n FROM policies", "--format", "csv")
    for as_of, names in ((None, "ab"), (f"policies={version}", "a"), (moment, "a")):
        options = ("--as-of", as_of) if as_of else ()
        assert cli("query", *usual, *options, "--store", store.root).out == f"n\n{names}\n"
    for as_of, says in (
        ("policies=99", "table policies has no version 99"),
        ("polices=1", "neither a time nor table versions"),
        ("last week", "neither a time nor table versions"),
    ):
        done = cli("query", *usual, "--as-of", as_of, "--store", store.root)
        assert done.code == 1 and says in done.err


def test_list_shows_queries_and_their_parameters(query: Query) -> None:
    done = query("--list")
    assert done.code == 0 and query().out == done.out
    for name in ("pass_rate", "warmup", "spent"):
        assert name in done.out
    done = query("--list", "warmup")
    assert "--param teacher=  POLICY, required: " in done.out
    assert "--param rows_per_update=  COUNT, default 64: " in done.out
    assert "no query named 'warmpu'" in query("--list", "warmpu").err


MISTAKES = {
    "SELEC 1": 'syntax error at or near "SELEC"',
    "SELECT nope FROM rollouts": 'column "nope" not found',
    "FROM rolouts": "rolouts",
    "SELECT 1 / 'a'": "Could not convert string 'a'",
    "pass_rat": "no query named 'pass_rat'; did you mean 'pass_rate'?",
    "none.sql": "no SQL file none.sql",
    " -- nothing": "the query holds no statement",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_clear_error(query: Query, text: str) -> None:
    done = query(text)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ") and MISTAKES[text] in done.err
    assert done.err.count("error:") == 1 and "Traceback" not in done.err


def test_a_missing_store_is_named(cli: Cli, tmp_path: Path) -> None:
    done = cli("query", "FROM rollouts", "--store", tmp_path / "none")
    assert done.code == 1
    assert f"error: no store at {tmp_path / 'none'}" in done.err and "s2d init" in done.err


WRITES = [
    "INSERT INTO updates SELECT * FROM updates",
    "INSERT INTO raw.updates SELECT * FROM raw.updates",
    "DELETE FROM raw.rollouts",
    "UPDATE raw.rewards SET reward = 1",
    "DROP VIEW rollouts",
    "CREATE TABLE mine AS SELECT 1",
    "COPY (SELECT 1) TO '{store}/s2d.json'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{store}/s2d.json'",
    "SELECT 1; COPY (SELECT 1) TO '{store}/tables/rollouts/x.parquet'",
    "ATTACH '{store}/mine.db'",
    "SET enable_external_access = true",
]


@pytest.mark.parametrize("text", WRITES)
def test_sql_cannot_write(query: Query, filled: Store, text: str) -> None:
    files = {p: p.stat().st_mtime_ns for p in filled.folder.rglob("*") if p.is_file()}
    text = text.format(store=filled.root)
    done = query(text)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: SQL cannot ")
    with pytest.raises(QueryError, match="SQL cannot"):
        filled.sql(text)
    assert {p: p.stat().st_mtime_ns for p in filled.folder.rglob("*") if p.is_file()} == files


def test_sql_reads_nothing_outside_the_store_unless_told(query: Query, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n42\n")
    text = f"SELECT a FROM read_csv('{tmp_path / 'secret.csv'}')"
    done = query(text)
    assert done.code == 1 and "42" not in done.out
    assert "error: the query reaches outside the store" in done.err and "--unsafe" in done.err
    assert query(text, "--unsafe", "--format", "csv").out == "a\n42\n"
    copy = f"COPY (SELECT 7 AS b) TO '{tmp_path / 'out.csv'}'"
    assert query(copy).code == 1 and not (tmp_path / "out.csv").exists()
    assert query(copy, "--unsafe").code == 0
    assert (tmp_path / "out.csv").read_text() == "b\n7\n"


def test_a_query_that_fails_late_leaves_no_file(query: Query, tmp_path: Path) -> None:
    text = "SELECT CASE WHEN i = 90000 THEN error('bad row') ELSE i END AS i FROM range(99999) r(i)"
    kept = tmp_path / "rows.csv"
    kept.write_text("mine")
    for path in (kept, tmp_path / "rows.parquet"):
        done = query(text, "--output", path)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: the query failed") and "bad row" in done.err
    assert os.listdir(tmp_path) == ["rows.csv"] and kept.read_text() == "mine"
    assert query("SELECT 1 AS a WHERE false", "--output", kept).code == 0
    assert kept.read_text() == "a\n", "a header even where there are no rows"


def test_ctrl_c_ends_a_long_query(filled: Store) -> None:
    text = "SELECT count(*) FROM range(100000000000) a (i), range(1000) b (j) WHERE i % 7 = j"
    process = made_stores.s2d("query", text, "--store", filled.root)
    deadline = time.monotonic() + 60
    # Seconds of processor time say that the query runs, however busy the machine is.
    while process.poll() is None and made_stores.cpu_seconds(process.pid) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = made_stores.finish(process)
    assert (code, out) == (130, "")
    assert err.startswith("error: stopped by Ctrl-C") and "Traceback" not in err


def test_bounds_of_time_and_memory_are_one_error(query: Query) -> None:
    long = "SELECT count(*) FROM range(100000000000) a (i), range(1000) b (j) WHERE i % 7 = j"
    done = query(long, "--timeout", "0.2")
    assert (done.code, done.out) == (1, "")
    assert "the query was stopped after 0.2 s" in done.err and "--timeout" in done.err
    assert query("SELECT 1 AS a", "--timeout", "60", "--format", "csv").out == "a\n1\n"
    done = query("SELECT list(i) FROM range(30000000) r(i)", "--memory", "20MB")
    assert done.code == 1 and "more memory or spill space" in done.err and "--memory" in done.err
    done = query("SELECT 1", "--memory", "much")
    assert done.code == 1 and "'much' is no amount of memory" in done.err
