"""`s2d prompts add`: formats, fields, and every way in which an input is refused whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from s2d_store.store import Store
from tests.conftest import Cli


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def stored(store: Store) -> list[tuple[Any, ...]]:
    """Content of the last message and answer of every prompt, in order of content."""
    text = "SELECT messages[-1].content AS content, answer FROM prompts ORDER BY content"
    return store.sql(text).fetchall()


ROWS = [{"question": "1+1=", "answer": "2"}, {"question": "2+2=", "answer": "4"}]


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "parquet", "csv"])
def test_every_format_gives_the_same_prompts(
    cli: Cli, store: Store, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"sums.{kind}"
    if kind == "parquet":
        pl.DataFrame(ROWS).write_parquet(path)
    elif kind == "csv":
        pl.DataFrame(ROWS).write_csv(path)
    else:
        jsonl(path, *ROWS)
    done = cli("prompts", "add", path, "--store", store.root)
    assert (done.code, done.err) == (0, "")
    assert done.out == "2 prompts added to split train (2 labelled)\n"
    assert stored(store) == [("1+1=", "2"), ("2+2=", "4")]
    assert store.sql("SELECT DISTINCT source, split FROM prompts").fetchall() == [("sums", "train")]


def test_fields_system_suffix_and_the_rest_as_meta(cli: Cli, store: Store, tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "x.jsonl",
        {"task": {"text": "π = ?", "id": 7}, "gold": {"value": 3}, "level": "é"},
    )
    options = ["--prompt-field", "task.text", "--answer-field", "gold.value", "--source", "mine"]
    options += ["--split", "test", "--system", "Be brief.", "--suffix", "\\nBox your answer, é."]
    assert cli("prompts", "add", path, *options, "--store", store.root).code == 0
    ((source, split, messages, answer, meta),) = store.sql(
        "SELECT source, split, messages, answer, meta FROM prompts"
    ).fetchall()
    assert (source, split, answer) == ("mine", "test", "3")
    assert messages == [
        {"role": "system", "content": "Be brief.", "extra": None},
        {"role": "user", "content": "π = ?\nBox your answer, é.", "extra": None},
    ]
    assert json.loads(meta) == {"level": "é"}


def test_gsm8k_answers_are_cut_out(cli: Cli, store: Store, tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "gsm8k.jsonl", {"question": "q", "answer": "2+3 is #### 1\n#### 1,234 "}
    )
    assert cli("prompts", "add", path, "--store", store.root).code == 0
    assert stored(store) == [("q", "1,234")]


def test_message_lists_keep_their_roles(cli: Cli, store: Store, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "1+1="},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "and 3 more?"},
    ]
    path = tmp_path / "chats.parquet"
    pl.DataFrame([{"messages": turns, "target": "5"}]).write_parquet(path)
    assert cli("prompts", "add", path, "--suffix", "!", "--store", store.root).code == 0
    ((messages,),) = store.sql("SELECT messages FROM prompts").fetchall()
    plain = [*turns[:2], {"role": "user", "content": "and 3 more?!"}]
    assert messages == [message | {"extra": None} for message in plain]


@pytest.mark.parametrize("options", [(), ("--answer-field", "none")])
def test_unlabelled_prompts(
    cli: Cli, store: Store, tmp_path: Path, options: tuple[str, ...]
) -> None:
    row = {"question": "q"} if not options else {"question": "q", "answer": "1"}
    path = jsonl(tmp_path / "x.jsonl", row)
    done = cli("prompts", "add", path, *options, "--store", store.root)
    assert done.out == "1 prompts added to split train (0 labelled)\n"
    assert stored(store) == [("q", None)]


def test_adding_again_adds_nothing_and_a_larger_file_adds_the_rest(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "x.jsonl", ROWS[0])
    cli("prompts", "add", path, "--store", store.root)
    jsonl(path, *ROWS)
    done = cli("prompts", "add", path, "--store", store.root)
    assert done.out == "1 prompts added to split train (2 labelled, 1 were stored before)\n"
    version = store.snapshot().versions["prompts"]
    done = cli("prompts", "add", path, "--store", store.root)
    assert done.out == "0 prompts added to split train (2 labelled, 2 were stored before)\n"
    assert store.snapshot().versions["prompts"] == version


@pytest.mark.parametrize(
    ("changed", "options", "says"),
    [
        ({"answer": "3"}, (), "stored: answer '2', split 'train'; now: answer '3', split 'train'"),
        ({}, ("--split", "test"), "now: answer '2', split 'test'"),
    ],
)
def test_a_stored_prompt_never_changes(
    cli: Cli,
    store: Store,
    tmp_path: Path,
    changed: dict[str, str],
    options: tuple[str, ...],
    says: str,
) -> None:
    cli("prompts", "add", jsonl(tmp_path / "a.jsonl", ROWS[0]), "--store", store.root)
    other = jsonl(tmp_path / "b.jsonl", ROWS[1], ROWS[0] | changed)
    done = cli("prompts", "add", other, *options, "--store", store.root)
    assert done.code == 1
    assert "error: the prompt of b.jsonl line 2 is stored already, in another form" in done.err
    assert says in done.err
    assert stored(store) == [("1+1=", "2")], "nothing of a refused file is stored"


def test_duplicates_are_refused_or_skipped(cli: Cli, store: Store, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", ROWS[0], ROWS[1], ROWS[0] | {"answer": "11"})
    done = cli("prompts", "add", path, "--store", store.root)
    assert done.code == 1
    assert "error: x.jsonl line 3 repeats the prompt of x.jsonl line 1" in done.err
    assert "--skip-duplicates keeps the first" in done.err
    assert stored(store) == []
    done = cli("prompts", "add", path, "--skip-duplicates", "--store", store.root)
    assert "2 prompts added to split train (2 labelled, 1 duplicates left out)" in done.out
    assert stored(store) == [("1+1=", "2"), ("2+2=", "4")]


REFUSED: dict[str, tuple[str, bytes, tuple[str, ...], list[str]]] = {
    "no such field": (
        "x.jsonl",
        b'{"question": "q", "answer": "1"}\n{"q": "r", "a": "1"}\n',
        ("--prompt-field", "question"),
        ["x.jsonl line 2 has no field 'question'", "its fields are q, a"],
    ),
    "no usual field": (
        "x.jsonl",
        b'{"text": "q"}\n',
        (),
        ["has no field 'messages or prompt or question or problem'", "its fields are text"],
    ),
    "no answer field": (
        "x.csv",
        b"question,answer\nq,1\n",
        ("--answer-field", "solution"),
        ["x.csv row 1 has no field 'solution'", "--answer-field none for unlabelled"],
    ),
    "an empty prompt": ("x.jsonl", b'{"question": " "}\n', (), ["line 1: the prompt is ' '"]),
    "a list that is no chat": (
        "x.jsonl",
        b'{"messages": [{"role": "user"}]}\n',
        (),
        ["a list of {role, content} messages"],
    ),
    "broken JSON": (
        "x.jsonl",
        b'{"question": "q"}\n\n{"question": \n',
        (),
        ["x.jsonl line 3 is not JSON"],
    ),
    "a JSON list": ("x.jsonl", b"[1]\n", (), ["line 1 is not a JSON object", "it is [1]"]),
    "another encoding": (
        "x.jsonl",
        b'{"question": "caf\xe9"}\n',
        (),
        ["x.jsonl line 1 is not UTF-8", "byte 0xe9"],
    ),
    "an empty file": ("x.jsonl", b"", (), ["the input holds no prompts"]),
    "an empty CSV": ("x.csv", b"", (), ["x.csv cannot be read as csv", "empty"]),
    "no Parquet": ("x.parquet", b"nothing", (), ["x.parquet cannot be read as parquet"]),
    "another kind of file": ("x.txt", b"q", (), ["neither .jsonl, .parquet nor .csv"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_error(cli: Cli, store: Store, tmp_path: Path, case: str) -> None:
    name, content, options, says = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    done = cli("prompts", "add", tmp_path / name, *options, "--store", store.root)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    for text in says:
        assert text in done.err
    assert stored(store) == []


def test_a_missing_file_is_named(cli: Cli, store: Store, tmp_path: Path) -> None:
    done = cli("prompts", "add", tmp_path / "none.jsonl", "--store", store.root)
    assert done.code == 1
    assert f"error: no file {tmp_path / 'none.jsonl'}" in done.err


def test_a_hub_data_set_that_cannot_be_reached_is_one_error(store: Store, tmp_path: Path) -> None:
    """In a process of its own: the hub's libraries read their settings when imported."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "prompts", "add", "hf:s2d-tests/no-such-data:test"],
        env=os.environ | offline | {"S2D_STORE": str(store.root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "error: hf:s2d-tests/no-such-data:test cannot be loaded" in done.stderr
    assert "fix: check the name and the network" in done.stderr
    assert "Traceback" not in done.stderr
    assert stored(store) == []


def test_gold_answers_that_nobody_can_read_are_told(cli: Cli, store: Store, tmp_path: Path) -> None:
    golds = ["72", r"\frac{1}{2}", "even", "(((", [r"\frac{1}{3}", "1, 2, \\ldots, n"], 7, None]
    rows = [{"question": f"q{i}", "answer": gold} for i, gold in enumerate(golds)]
    done = cli("prompts", "add", jsonl(tmp_path / "a.jsonl", *rows), "--store", store.root)
    assert done.code == 0, done.err
    first, told, *reasons = done.out.splitlines()
    assert first.startswith("7 prompts added to split train (6 labelled")
    assert "math-verify cannot read 2 of the gold answers" in told
    assert "line 4: cannot read the gold answer '((('" in reasons[0]
    assert "line 5: only the same text as '1, 2, " in reasons[1]
