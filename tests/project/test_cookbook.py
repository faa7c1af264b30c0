"""The cookbook and the notebook: what they show is what the commands and methods take."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import queries
from cli.main import app
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import synthetic, two_policies

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cookbook.md").read_text()
COMMANDS = [line[6:] for line in PAGE.splitlines() if line.startswith("    $ ")]


def test_thirteen_questions_are_answered() -> None:
    assert len(COMMANDS) == PAGE.count("\n## ") == 13
    sections = PAGE.split("\n## ")[1:]
    assert all(section.count("\n    ") >= 3 for section in sections), "each with an answer"


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_of_the_page_is_one_of_s2d(text: str) -> None:
    program, name, *words = shlex.split(text)
    command: Any = typer.main.get_command(app)
    assert program == "s2d"
    command.commands[name].make_context(name, list(words))
    if name == "query":
        known = queries.catalog()[words[0]]
        given = {word.partition("=")[0] for word in words if "=" in word}
        assert given <= {param.name for param in known.params}


def test_the_notebook_runs(cli: Cli, store: Store) -> None:
    two_policies.fill(store)
    synthetic.fill(store, name="sampler", run="gen-train")
    built = cli(
        "dataset", "build", "d", "--query", "warmup", "-p", "teacher=sampler",
        "--store", store.root,
    )  # fmt: skip
    assert built.code == 0, built.err
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "notebook" / "store.py")],
        env=os.environ | {"S2D_STORE": str(store.root), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Rollout('gen-after-000-0-0', after, 8 tokens, correct)" in done.stdout
    assert "LockedDataset('d', warmup, " in done.stdout
