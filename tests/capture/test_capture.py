"""What passes through the proxy reaches client and server unchanged, and the store once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2d_store.capture import drain, spool, streams
from s2d_store.errors import StoreError
from tests.capture.conftest import KEY, Captured
from tests.support.chat_server import IDS, LOGPROBS, PROMPT_IDS
from tests.support.faulty_disks import can_mount_read_only, read_only

Start = Callable[..., Captured]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASKED: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "6*7="}]}
IDS_ASKED = {"return_token_ids": True, "logprobs": True}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_ids_and_logprobs_of_vllm(capturing: Start, path: str, stream: bool) -> None:
    running = capturing()
    chat = path == CHAT
    body = ASKED | IDS_ASKED if chat else {"model": "tiny", "prompt": "6*7=", "logprobs": 0}
    body |= {"return_token_ids": True, "stream": stream, "temperature": 0.7, "seed": 3}
    got, direct = running.post(path, body), running.directly(path, body)
    assert (got.status_code, got.content) == (200, direct.content)
    assert got.headers["content-type"] == direct.headers["content-type"]
    assert [told for _, told in running.upstream.seen] == [body, body]
    assert {headers["authorization"] for headers, _ in running.upstream.seen} == {KEY}
    assert running.drain().rollouts == 1
    (row,) = running.rollouts()
    known = {
        "run_id": "r",
        "origin": "captured",
        "tokens_from": "sampled",
        "prompt_token_ids": PROMPT_IDS,
        "response_token_ids": IDS,
        "response_logprobs": LOGPROBS,
        "sampler_logprobs": None,
        "response_text": "42",
        "finish_reason": "stop",
        "seed": 3,
        "top_p": None,
        "engine": "vllm",
        "endpoint": running.server_url,
    }
    assert {name: row[name] for name in known} == known
    held = "".join(file.read_text("latin-1") for file in _files(running))
    assert "sk-0123456789" not in held


def _files(running: Captured) -> list[Path]:
    root = Path(str(running.store.root))
    return [p for folder in (root, running.spool.folder) for p in folder.rglob("*") if p.is_file()]


@pytest.mark.parametrize("stream", [False, True])
def test_ids_asked_for_are_left_out_of_the_answer(capturing: Start, stream: bool) -> None:
    running = capturing(ask_ids=True)
    body = ASKED | {"stream": stream}
    got = running.post(CHAT, body)
    plain = running.directly(CHAT, body)
    (_, sent), _ = running.upstream.seen
    assert sent == body | IDS_ASKED
    assert _without_nulls(got.text) == _without_nulls(plain.text)
    running.drain()
    (row,) = running.rollouts()
    assert (row["response_token_ids"], row["response_logprobs"]) == (IDS, LOGPROBS)


def _without_nulls(text: str) -> list[Any]:
    """Bodies or chunks; a field that is null is one that is not there."""

    def known(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in pairs if value is not None}

    lines = [line.removeprefix("data: ") for line in text.split("\n") if line]
    return [
        line if line == "[DONE]" else json.loads(line, object_pairs_hook=known) for line in lines
    ]


def test_a_server_that_refuses_to_be_asked_gets_the_request_as_it_was(capturing: Start) -> None:
    running = capturing(owner="openai", ask_ids=True)
    running.upstream.strict = True
    assert [running.post(CHAT, ASKED).status_code for _ in range(2)] == [200, 200]
    assert [told for _, told in running.upstream.seen][1:] == [ASKED, ASKED]
    assert running.drain().rollouts == 2
    assert {row["tokens_from"] for row in running.rollouts()} == {"none"}


def test_runs_and_groups_by_path_and_header_and_choices(capturing: Start) -> None:
    running = capturing(role="teacher", source="agents")
    running.post(CHAT, ASKED, x_s2d_run="a", x_s2d_group="g")
    running.post(f"/run/a/group/g{CHAT}", ASKED | {"seed": 1})
    running.post(f"/run/b{CHAT}", ASKED | {"n": 3})
    assert all("x-s2d-run" not in headers for headers, _ in running.upstream.seen)
    running.drain()
    rows = running.rollouts()
    found: dict[tuple[str, str], list[int]] = {(row["run_id"], row["group_id"]): [] for row in rows}
    for row in rows:
        found[row["run_id"], row["group_id"]].append(row["sample_index"])
    assert sorted((run, sorted(index)) for (run, _), index in found.items()) == [
        ("a", [0, 1]),
        ("b", [0, 1, 2]),
    ]
    assert {row["role"] for row in rows} == {"teacher"}
    prompts = running.store.sql("SELECT source, messages[1].content FROM raw.prompts").fetchall()
    assert prompts == [("agents", "6*7=")]
    runs = running.store.sql("SELECT run_id, kind, status FROM runs ORDER BY 1").fetchall()
    assert runs == [("a", "capture", "done"), ("b", "capture", "done")]


def test_tools_and_what_no_column_holds(capturing: Start) -> None:
    running = capturing(owner="sglang")
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    extra = {"tools": tools, "metadata": {"api_key": "abcdefghijkl"}, "logprobs": True}
    running.post(CHAT, ASKED | extra | {"temperature": 0.5})
    running.drain()
    (row,) = running.rollouts()
    messages = json.loads(row["messages"])
    assert messages[1]["tool_calls"][0]["function"]["name"] == "add"
    assert (row["finish_reason"], row["engine"]) == ("tool_calls", "sglang")
    assert (row["response_logprobs"], row["sampler_logprobs"]) == (None, None)
    ((told,),) = running.store.sql("SELECT tools FROM raw.prompts").fetchall()
    assert json.loads(told) == tools
    rest = json.loads(row["source"])["rest"]
    assert rest["in"]["body"]["metadata"] == {"api_key": "***"}
    assert "42" not in json.dumps(rest["out"])


@pytest.mark.parametrize(
    ("owner", "said", "settings", "column"),
    [
        ("vllm", "", {"temperature": 0.5}, "response_logprobs"),
        ("server", "", {"temperature": 0.5}, "sampler_logprobs"),
        ("server", "", {"temperature": 1, "top_p": 1}, "response_logprobs"),
        ("server", "", {"temperature": 1, "top_p": 1, "min_p": 0.1}, "sampler_logprobs"),
        ("vllm", "processed", {"temperature": 0.5}, "sampler_logprobs"),
    ],
)
def test_raw_and_processed_are_told_apart(
    owner: str, said: str, settings: dict[str, Any], column: str
) -> None:
    from s2d_store.capture.records import _kind

    told = {"stored": {"logprobs": said}, "server": {"name": owner}}
    kinds = {"response_logprobs": "raw", "sampler_logprobs": "processed"}
    assert _kind(told, settings) == kinds[column]


def test_a_completion_of_several_prompts_of_ids(capturing: Start) -> None:
    running = capturing(owner="server")
    running.post(TEXT, {"model": "tiny", "prompt": [[5, 6], [8]], "n": 1, "max_tokens": 4})
    running.drain()
    (row,) = running.rollouts()  # the server here answers the first alone
    assert (row["response_text"], row["tokens_from"], row["max_tokens"]) == ("42", "none", 4)
    assert json.loads(row["source"])["rest"]["in"]["body"]["prompt"] == [[5, 6], [8]]


def test_other_paths_and_errors_pass_and_are_not_stored(capturing: Start) -> None:
    running = capturing()
    assert running.post("/denied/chat/completions", ASKED).status_code == 401
    assert running.post("/v1/embeddings", {}).status_code == 404
    assert running.drain().rollouts == 0
    assert not running.spool.folder.exists()


def test_a_full_memory_lets_requests_pass(capturing: Start) -> None:
    running = capturing(max_bytes=64)
    assert running.post(CHAT, ASKED).status_code == 200
    running.end()
    assert (running.spool.taken, running.spool.dropped) == (0, 1)


def test_a_spool_is_stored_once_however_often_it_is_read(capturing: Start, tmp_path: Path) -> None:
    """A file that was committed and not deleted, as by a kill in between, adds nothing."""
    running = capturing()
    for seed in range(3):
        running.post(CHAT, ASKED | {"seed": seed}, x_s2d_group="g")
    running.end()
    (file,) = spool.ready(running.spool.folder)
    copy = file.read_bytes()
    assert drain.drain(running.store, file.parent).rollouts == 3
    before = running.rollouts()
    assert list(file.parent.iterdir()) == []
    for name in (file.name, "again.part"):
        (file.parent / name).write_bytes(copy)
        assert drain.drain(running.store, file.parent).rollouts == 0
    assert running.rollouts() == before
    assert [row["sample_index"] for row in before] == [0, 1, 2]


def test_a_store_that_cannot_be_written_leaves_the_spool(capturing: Start) -> None:
    running = capturing()
    assert running.post(CHAT, ASKED).status_code == 200
    running.end()
    root = Path(str(running.store.root))
    with (
        running.store.exclusive(".capture", StoreError("busy")),
        pytest.raises(StoreError, match="another process stores what was captured"),
    ):
        running.drain()
    if can_mount_read_only(root):
        command = (sys.executable, "-m", "cli.main", "capture", "--drain", "--store", root)
        done = subprocess.run(read_only(root, *command), capture_output=True, text=True)
        assert (done.returncode, "cannot write to the store" in done.stderr) == (1, True)
    assert [running.drain().rollouts, running.drain().rollouts] == [1, 0]


def test_what_cannot_be_held_is_kept_aside_with_why(capturing: Start) -> None:
    running = capturing()
    running.post(TEXT, {"model": "tiny", "prompt": "6*7=", "echo": True})
    running.post(CHAT, ASKED)
    done = running.drain()
    assert (done.rollouts, done.refused) == (1, 1)
    (line,) = (running.spool.folder / spool.REFUSED).read_text().splitlines()
    told = json.loads(line)
    assert "echo or suffix" in told["refused"]
    assert json.loads(told["request"])["prompt"] == "6*7="


def test_a_line_that_cannot_be_read_stays_with_its_bytes(capturing: Start) -> None:
    running = capturing()
    running.post(CHAT, ASKED)
    running.end()
    (file,) = running.spool.folder.glob("*.jsonl")
    torn = file.read_bytes() + b'{"exchange": "cut off in the mid'
    file.write_bytes(torn)
    assert [running.drain().rollouts, running.drain().rollouts] == [1, 0]
    assert file.with_suffix(spool.TORN).read_bytes() == torn


def test_calls_of_a_stream_come_by_index_whatever_it_is() -> None:
    pieces = [(10**15, "g", '{"b":'), (0, "f", "{}"), (10**15, None, " 1}")]
    chunks = [
        {"index": at, "function": {"name": name, "arguments": text}} for at, name, text in pieces
    ]
    text = "".join(
        "data: " + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [chunk]}}]}) + "\n"
        for chunk in chunks
    )
    calls = streams.assembled(text)["choices"][0]["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "f", "arguments": "{}"},
        {"name": "g", "arguments": '{"b": 1}'},
    ]
