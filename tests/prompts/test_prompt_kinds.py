"""What a prompt may be: messages with tools and parts, typed gold answers, and hostile records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store import ids, prompts
from s2d_store.errors import InputError
from s2d_store.messages import from_stored
from s2d_store.prompts import records
from s2d_store.prompts.gold import read_gold
from s2d_store.store import Store
from tests.conftest import Cli
from tests.prompts.test_prompts import jsonl

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"b":1,"a":2}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"z": 1, "a": {"é": []}}}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "developer", "content": "Use tools."},
    {"role": "user", "content": [{"type": "text", "text": "2+1?"}], "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"},
    {"role": "tool", "content": "3", "tool_call_id": "c1"},
]


def add(store: Store, *rows: dict[str, Any], **options: Any) -> prompts.Added:
    numbered = ((f"x line {i}", row) for i, row in enumerate(rows, 1))
    return prompts.add(store, numbered, prompts.PromptOptions(source="x", **options))


def only(store: Store, columns: str) -> tuple[Any, ...]:
    (row,) = store.sql(f"SELECT {columns} FROM prompts").fetchall()
    return tuple(row)


def test_tools_calls_names_ids_and_parts_come_back_as_they_were(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    task = {"environment": "sums", "key": 7}
    path = jsonl(
        tmp_path / "x.jsonl",
        {"messages": CONVERSATION, "tools": [TOOL], "task": task, "level": 1.5},
    )
    done = cli("prompts", "add", path, "--store", store.root)
    assert done.out == "1 prompts added to split train (0 labelled, 1 with tools)\n"
    messages, tools, stored_task, meta = only(store, "messages, tools, task, meta")
    assert [from_stored(m) for m in messages] == CONVERSATION
    assert messages[1]["content"] == "2+1?", "the text of the parts is a column"
    assert json.loads(tools) == [TOOL] and list(json.loads(tools)[0]["function"]["parameters"]) == [
        "z",
        "a",
    ]
    assert (json.loads(stored_task), json.loads(meta)) == (task, {"level": 1.5})


def test_identity_counts_what_is_there_and_is_that_of_old_for_plain_messages(store: Store) -> None:
    plain = {"messages": [{"role": "user", "content": "q"}]}
    named = {"messages": [{"role": "user", "content": "q", "name": "ann"}]}
    add(store, plain, named, plain | {"tools": [TOOL]}, {"question": "other"})
    found = [key for (key,) in store.sql("SELECT prompt_id FROM prompts").fetchall()]
    assert len(set(found)) == 4
    assert ids.content_id("prompt", [["user", "q"]]) in found


@pytest.mark.parametrize(
    ("value", "kind", "answer"),
    [
        ("  x = 5 ", "text", "x = 5"),
        (42, "number", "42"),
        (3.0, "number", "3"),
        (1e-07, "number", "0.0000001"),
        (1e22, "number", "10000000000000000000000"),
        (-0.0, "number", "0"),
        (10**400, "number", str(10**400)),
        (["1/2", 0.5, "1/2"], "list", ("1/2", "0.5")),
        (None, "none", None),
        (float("nan"), "none", None),
        (" \n", "none", None),
        ("it is\n#### ", "none", None),
        ([], "none", None),
    ],
)
def test_a_gold_answer_has_a_type(value: Any, kind: str, answer: Any) -> None:
    gold = read_gold("x line 1", value)
    assert gold.type == kind
    assert (gold.answers if kind == "list" else gold.answer) == answer
    if kind == "list":
        assert gold.answer == answer[0]


@pytest.mark.parametrize(
    "value", [True, b"5", {"a": 1}, [["5"]], ["5", None], [True], float("inf"), object()]
)
def test_what_is_no_answer_is_refused_by_line(store: Store, value: Any) -> None:
    with pytest.raises(InputError, match=r"x line 2.*(gold answer is|accepted answers is empty)"):
        add(store, {"question": "p", "answer": "1"}, {"question": "q", "answer": value})
    assert store.sql("SELECT * FROM prompts").fetchall() == []


def test_a_number_keeps_its_digits_and_nan_of_parquet_is_none(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "n.jsonl").write_text('{"question": "pi", "answer": 3.14159265358979323846}\n')
    pl.DataFrame({"question": ["a", "b"], "answer": [2.0, float("nan")]}).write_parquet(
        tmp_path / "n.parquet"
    )
    for name in ("n.jsonl", "n.parquet"):
        assert cli("prompts", "add", tmp_path / name, "--store", store.root).code == 0
    text = "SELECT messages[1].content, answer, answer_type FROM prompts ORDER BY 1"
    assert store.sql(text).fetchall() == [
        ("a", "2", "number"),
        ("b", None, "none"),
        ("pi", "3.14159265358979323846", "number"),
    ]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "half a surrogate pair": (b'{"question": "\\ud800"}', "half of a surrogate pair"),
    "half a pair in a key": (b'{"question": "q", "m": {"\\udfff": 1}}', "surrogate"),
    "5,000 digits": (
        b'{"question": "q", "answer": ' + b"9" * 5000 + b"}",
        "more than 4,300 digits",
    ),
    "an overflow": (b'{"question": "q", "level": 1e999}', "cannot be stored"),
    "a million zeros": (b'{"question": "q", "level": 1e-999999}', "cannot be stored"),
    "NaN": (b'{"question": "q", "answer": NaN}', "NaN is no JSON number"),
    "Infinity": (b'{"question": "q", "level": -Infinity}', "-Infinity is no JSON number"),
    "deep lists": (b'{"question": "q", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
    "deeper than is read": (b'{"question": "q", "x": ' + b"[" * 90 + b"]" * 90 + b"}", "deep"),
    "bytes as a part": (b'{"messages": [{"role": "user", "content": [7]}]}', "messages"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_line_is_one_error_that_names_it(
    cli: Cli, store: Store, tmp_path: Path, case: str
) -> None:
    line, says = HOSTILE[case]
    (tmp_path / "x.jsonl").write_bytes(b'{"question": "fine"}\n' + line + b"\n")
    done = cli("prompts", "add", tmp_path / "x.jsonl", "--store", store.root)
    assert done.code == 1 and "Traceback" not in done.err
    assert "x.jsonl line 2" in done.err and says in done.err
    assert len(done.err) < 1000
    assert store.sql("SELECT * FROM prompts").fetchall() == []


def test_other_golds_of_equal_prompts_are_told_with_both_lines(
    cli: Cli, store: Store, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "x.jsonl", *({"question": "q", "answer": a} for a in ("2", "2", 3)))
    done = cli("prompts", "add", path, "--store", store.root)
    assert "x.jsonl line 2 repeats the prompt of x.jsonl line 1\n" in done.err
    jsonl(path, *({"question": "q", "answer": a} for a in ("2", 3)))
    done = cli("prompts", "add", path, "--store", store.root)
    assert "x.jsonl line 2 repeats the prompt of x.jsonl line 1 with another gold" in done.err
    told = "x.jsonl line 2 has gold answer '3', x.jsonl line 1 has '2'"
    assert told in done.err
    done = cli("prompts", "add", path, "--skip-duplicates", "--store", store.root)
    assert done.code == 0 and f"  kept the first: {told}\n" in done.out
    assert only(store, "answer, answer_type") == ("2", "text")
    jsonl(path, {"question": "q", "answer": "9" * 5000})
    done = cli("prompts", "add", path, "--store", store.root)
    assert "is stored already, in another form" in done.err and len(done.err) < 1000


def test_system_replaces_the_first_and_refuses_another(store: Store) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    add(store, {"messages": [{"role": "system", "content": "old"}, *turns]}, system="new")
    assert [m["content"] for m in only(store, "messages")[0]] == ["new", "q", "a"]
    late = [*turns, {"role": "system", "content": "late"}]
    with pytest.raises(InputError, match="x line 1 has a system message that is not its first"):
        add(store, {"messages": late}, system="new")


def test_suffix_goes_to_the_users_last_message(store: Store) -> None:
    add(store, {"messages": CONVERSATION}, suffix=" Box it.")
    messages = [from_stored(m) for m in only(store, "messages")[0]]
    assert messages[1]["content"] == [
        {"type": "text", "text": "2+1?"},
        {"type": "text", "text": " Box it."},
    ]
    assert messages[3]["content"] == "3"
    with pytest.raises(InputError, match="x line 1 has no message of the user's"):
        add(store, {"messages": [{"role": "assistant", "content": "a"}]}, suffix="!")


def test_a_file_that_unfolds_to_gigabytes_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.parquet"
    table = pa.table({"question": pa.array(["q" * 1_000_000] * 200).dictionary_encode()})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 1_100_000
    monkeypatch.setattr(records, "MAX_TOTAL_BYTES", 100_000_000)
    with pytest.raises(InputError, match=r"(?s)bomb.parquet holds more .*unfolds to more than"):
        list(prompts.read_records(str(path)))
    monkeypatch.setattr(records, "MAX_ROWS", 100)
    with pytest.raises(InputError, match="declares 200 rows"):
        list(prompts.read_records(str(path)))


def test_a_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jsonl(tmp_path / "x.jsonl", {"question": "q"}, {"question": "q" * 200})
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 100)
    with pytest.raises(InputError, match=r"x\.jsonl line 2 is longer than 100 bytes"):
        list(prompts.read_records(str(path)))


def test_dates_and_bytes_of_parquet_are_kept_in_meta_as_text(store: Store) -> None:
    from datetime import date

    add(store, {"question": "q", "day": date(2026, 1, 2), "raw": b"\xff", "gap": float("nan")})
    assert json.loads(only(store, "meta")[0]) == {"day": "2026-01-02", "raw": "/w==", "gap": None}
    with pytest.raises(InputError, match="x line 1 holds what JSON cannot"):
        add(store, {"question": "r", "x": float("inf")})
