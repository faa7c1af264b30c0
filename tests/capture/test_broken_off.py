"""Servers that die, clients that leave, and the whole command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from s2d_store.store import Store
from tests.capture.conftest import Captured, serving
from tests.capture.test_capture import ASKED, CHAT, IDS_ASKED
from tests.conftest import Cli
from tests.support import chat_server
from tests.support.chat_server import IDS, LOGPROBS, Upstream

Start = Callable[..., Captured]


def test_a_server_that_dies_within_a_stream(capturing: Start) -> None:
    running = capturing()
    running.upstream.breaks_after = 3
    body = ASKED | IDS_ASKED | {"stream": True}
    got = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{running.url}{CHAT}", json=body) as response,
    ):
        for piece in response.iter_raw():
            got += piece
    assert got.count(b"data: ") == 3
    running.drain()
    (row,) = running.rollouts()
    assert (row["finish_reason"], row["response_text"]) == ("error", "42")
    assert (row["response_token_ids"], row["response_logprobs"]) == (IDS[:2], LOGPROBS[:2])


def test_no_server_is_an_answer_in_the_api_s_form(capturing: Start) -> None:
    running = capturing()
    running.proxy._upstream = "http://127.0.0.1:1"
    response = running.post(CHAT, ASKED)
    assert response.status_code == 502
    assert response.json()["error"]["message"].startswith("s2d capture: no answer from")
    assert running.drain().rollouts == 0


def test_a_client_that_leaves(capturing: Start) -> None:
    """The server is told, and what had come is kept."""
    running = capturing()
    running.upstream.hangs = True
    body = ASKED | IDS_ASKED | {"stream": True}
    with httpx.stream("POST", f"{running.url}{CHAT}", json=body) as response:
        pieces = response.iter_raw()
        got = b""
        while got.count(b"data: ") < 2:
            got += next(pieces)
    _until(running.upstream.gone.is_set)
    _until(lambda: running.spool.taken == 1)
    running.drain()
    (row,) = running.rollouts()
    assert (row["finish_reason"], row["response_token_ids"]) == ("aborted", IDS[:1])


def _storers(pid: int) -> set[int]:
    """The processes of a command that store, and have not ended."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            words = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == pid and state != "Z" and b"spawn_main" in words:
            found.add(int(path.name))
    return found


def _until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_the_command_stores_what_came_when_it_is_interrupted(tmp_path: Path) -> None:
    store, upstream = Store.init(tmp_path / "store"), Upstream()
    command = [sys.executable, "-m", "cli.main", "capture", "--store", str(store.root)]
    with serving(lambda _: chat_server.app(upstream)) as server:
        command += ["--upstream", f"{server}/v1", "--port", "0", "--run", "r", "--ask-ids"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert "vllm 0.32.0, logprobs raw" in told
            url = told.split()[0].removesuffix("/v1")
            assert httpx.post(f"{url}{CHAT}", json=ASKED, timeout=20).status_code == 200
            _until(lambda: len(_storers(process.pid)) == 1)
            (killed,) = _storers(process.pid)
            os.kill(killed, signal.SIGKILL)
            asked = ASKED | {"seed": 1}
            assert httpx.post(f"{url}{CHAT}", json=asked, timeout=20).status_code == 200
            # Another one is started, and whatever either had begun is stored once.
            _until(lambda: _storers(process.pid) - {killed})
            process.send_signal(signal.SIGINT)
            assert "2 requests kept" in process.stdout.read()
        assert process.returncode == 0
    rows = store.sql("SELECT run_id, engine_version, len(response_token_ids) FROM raw.rollouts")
    assert rows.fetchall() == [("r", "0.32.0", 3)] * 2
    assert not list((tmp_path / "store.spool").iterdir())


def test_what_a_killed_command_left_is_stored_by_drain(capturing: Start, cli: Cli) -> None:
    running = capturing()
    running.post(CHAT, ASKED)
    running.end()
    (file,) = running.spool.folder.iterdir()
    file.rename(file.with_suffix(".part"))  # as a process leaves it that is killed
    command = ("capture", "--drain", "--store", running.store.root)
    assert cli(*command).out == "1 rollouts stored\n"
    assert cli(*command).out == "0 rollouts stored\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--upstream", "localhost:8000"], "is no server's URL"),
        (["--upstream", "http://h", "--role", "judge"], "--role 'judge' is unknown"),
        (["--upstream", "http://h", "--run", "a/b"], "is not a usable name"),
    ],
)
def test_settings_that_are_refused(
    tmp_path: Path, cli: Cli, given: list[str], message: str
) -> None:
    Store.init(tmp_path / "store")
    command = ["capture", "--store", str(tmp_path / "store"), "--port", "0", *given]
    refused = cli(*command)
    assert (refused.code, message in refused.err) == (1, True)
