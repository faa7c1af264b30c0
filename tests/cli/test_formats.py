"""`--format`: every command that prints a table has it, with the same formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from cli.main import app
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores

# They say what they did in sentences.
SENTENCES = {
    "init", "prompts add", "policies add", "policies move", "generate", "verify", "score",
    "verifiers withdraw", "watch", "dataset build", "dataset materialise", "dataset verify",
    "dataset restore", "dataset drop", "train warmup", "train opd", "train grpo", "train sft",
    "train bridge_continuation", "budget check", "capture", "view", "doctor", "compact", "vacuum",
    "publish", "clone", "migrate",
}  # fmt: skip
# Files in formats of their own.
FILES = {"dataset export", "report"}
TABLES = {"json", "csv", "md", "latex"}


def commands(command: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its words."""
    command = command or typer.main.get_command(app)
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    for word, child in command.commands.items():
        yield from commands(child, f"{name} {word}".strip())


def test_every_command_that_prints_a_table_takes_every_format() -> None:
    found = {
        name: set((param.metavar or "").split("|"))
        for name, command in commands()
        for param in command.params
        if "--format" in param.opts
    }
    assert {name for name, _ in commands()} - found.keys() == SENTENCES
    for name, formats in found.items():
        assert name in FILES or formats >= TABLES, f"s2d {name} lacks {TABLES - formats}"


@pytest.fixture
def sound_copy(sound: Store, tmp_path: Path) -> Store:
    return made_stores.copy(sound, tmp_path / "copy")


@pytest.mark.parametrize(
    ("words", "heads"),
    [
        (("dataset", "show", "warmup"), ["per row", "update"]),
        (("dataset", "diff", "warmup", "warmup"), ["measure"]),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_tables_for_other_programs_hold_nothing_else(
    cli: Cli, sound_copy: Store, words: tuple[str, ...], heads: list[str]
) -> None:
    def shown(form: str) -> str:
        done = cli(*words, "--format", form, "--store", sound_copy.root)
        assert done.code == 0, done.err
        return done.out

    tables = [list(csv.reader(io.StringIO(part))) for part in shown("csv").split("\n\n")]
    assert [table[0][0] for table in tables] == heads
    assert all(len(row) == len(table[0]) > 1 for table in tables for row in table)
    assert shown("md").count("| ---") >= len(heads)
    assert shown("latex").count(r"\begin{tabular}") == len(heads)
    assert json.loads(shown("json"))
    refused = cli(*words, "--format", "yaml", "--store", sound_copy.root)
    assert refused.code == 1 and "output format 'yaml' is unknown" in refused.err
