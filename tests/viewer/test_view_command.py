"""`s2d view` itself: what it says, what it refuses, and that its SQL is described."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

import queries
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores
from viewer import serve


def test_it_prints_its_address_serves_and_ends_with_ctrl_c(sound: Store) -> None:
    process = made_stores.s2d("view", "--store", sound.root, "--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r".*: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)
    assert found is not None, line
    with urllib.request.urlopen(f"{found[1]}rollouts.json?part=rows&rows=1", timeout=60) as answer:
        assert b'"total"' in answer.read()
    os.kill(process.pid, signal.SIGINT)
    code, _, err = made_stores.finish(process)
    assert code in (0, 130) and "Traceback" not in err


def test_a_port_that_is_taken_is_an_error(sound: Store, cli: Cli) -> None:
    with serve.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = cli("view", "--store", sound.root, "--port", port)
    assert done.code == 1
    assert f"cannot listen at 127.0.0.1, port {port}" in done.err and "--port 0" in done.err


def test_without_the_extra_it_says_what_to_install(
    sound: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.view.find_spec", lambda name: None)
    done = cli("view", "--store", sound.root)
    assert done.code == 1
    assert "needs starlette and uvicorn" in done.err and 'pip install "s2d[view]"' in done.err


@pytest.mark.parametrize(
    "file", sorted((queries.ROOT / "view").glob("*.sql")), ids=lambda f: f.stem
)
def test_each_query_says_what_it_answers(file: Path) -> None:
    query = queries.parse(file.stem, "view", file.read_text())
    assert query.question.endswith("?") and query.columns
    used = set(re.findall(r"\$(\w+)", query.sql))
    assert used <= {param.name for param in query.params}
