"""What commands print: tables that fit, safe text, and the same rows for other programs."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from cli import table
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import synthetic


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("filled") / "store")
    synthetic.fill(store)
    return store


def on_a_terminal(*words: str, columns: int = 80, **environment: str) -> str:
    """What a command prints on a terminal of some width, standard error included."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment, COLUMNS=str(columns), LINES="40", TERM="xterm")
        os.execv(sys.executable, [sys.executable, "-m", "cli.main", *words])
    parts = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    os.waitpid(pid, 0)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_a_row_too_wide_for_the_terminal_is_a_record(filled: Store) -> None:
    text = on_a_terminal("query", "select * from rollouts limit 2", "--store", str(filled.root))
    lines = text.splitlines()
    n_columns = len(filled.sql("FROM rollouts").columns)
    assert len(lines) == 2 * (n_columns + 1) + 1
    assert "row 1 of 2" in lines[0] and lines[1].startswith("  rollout_id          ")


def test_text_is_wrapped_before_that() -> None:
    shown = table.table(["n", "text"], [(1, "four words of text " * 4), (22, None)], 40)
    assert shown.splitlines() == [
        " n  text",
        " 1  four words of text four words of",
        "    text four words of text four words",
        "    of text",
        "22  -",
    ]
    assert all(len(line) <= 40 for line in shown.splitlines())


def test_wide_characters_stay_in_line() -> None:
    lines = table.table(["a", "b"], [("日本", "x"), ("é", "y")], 80).splitlines()
    assert [line.index(sign) for line, sign in zip(lines[1:], "xy", strict=True)] == [4, 6]


@pytest.mark.parametrize("text", ["\x1b[2J", "a\x07", "\u202eabc", "\u2066x"])
def test_what_a_model_wrote_does_not_steer_the_terminal(text: str) -> None:
    shown = table.cell(text)
    assert "\\" in shown and not any(c in shown for c in "\x1b\x07\u202e\u2066")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("-2", "-2"),
        ("+1.5e3", "+1.5e3"),
        (-2, "-2"),
        (None, ""),
        ("a=b", "a=b"),
    ],
)
def test_csv_runs_nothing_in_a_spreadsheet(value: object, written: str) -> None:
    text = "".join(table.csv_lines([("x",), (value,)]))
    assert [row for row in csv.reader(io.StringIO(text)) if row][1:] in ([[written]], [])
    assert written or text == 'x\n""\n'


def test_json_has_no_number_that_json_lacks() -> None:
    text = table.record(["a", "b", "c"], (math.nan, [-math.inf, 1.5], "x"))
    assert json.loads(text) == {"a": "NaN", "b": ["-Infinity", 1.5], "c": "x"}


def test_markdown_and_latex_escape_what_they_would_read() -> None:
    rows = [("a|b<i>", 1), ("50% of $x_1", 2)]
    assert table.markdown(["text", "n"], rows).splitlines() == [
        "| text | n |",
        "| --- | ---: |",
        r"| a\|b&lt;i&gt; | 1 |",
        "| 50% of $x_1 | 2 |",
    ]
    lines = table.latex(["text", "n"], rows).splitlines()
    assert lines[0] == r"\begin{tabular}{lr}" and lines[5] == r"50\% of \$x\_1 & 2 \\"


LISTS = (
    ("info",),
    ("policies", "list"),
    ("dataset", "list"),
    ("verifiers", "list"),
    ("audit", "--list"),
    ("query", "--list"),
    ("query", "pass_rate"),
    ("budget",),
)


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_every_list_is_printed_in_every_format(
    cli: Cli, filled: Store, words: tuple[str, ...]
) -> None:
    at = ("--store", filled.root)
    rows = json.loads(cli(*words, "--format", "json", *at).out)
    rows = rows["spent"] if isinstance(rows, dict) else rows
    text = cli(*words, "--format", "csv", *at).out
    if words != ("budget",):
        assert len(list(csv.DictReader(io.StringIO(text)))) == len(rows)
    assert cli(*words, "--format", "md", *at).out.splitlines()[1].startswith("| ---")
    assert cli(*words, "--format", "latex", *at).out.startswith("\\begin{tabular}{")
    done = cli(*words, "--format", "xml", *at)
    assert (done.code, done.out) == (1, "") and "output format 'xml' is unknown" in done.err


def test_no_color(filled: Store, tmp_path: Path) -> None:
    at = ("--store", str(filled.root))
    assert "\x1b[1m" in on_a_terminal("policies", "list", *at)
    assert "\x1b[" in on_a_terminal("query", "nope", *at)
    for words in (("policies", "list", *at), ("query", "nope", *at)):
        assert "\x1b" not in on_a_terminal(*words, NO_COLOR="1")


def test_a_pipe_gets_rows_in_one_line(filled: Store) -> None:
    command = [sys.executable, "-m", "cli.main", "policies", "list", "--store", str(filled.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = filled.sql("SELECT name FROM policies").fetchall()
    assert len(done.stdout.splitlines()) == len(names) + 1 and "\x1b" not in done.stdout
