"""What a shell completes: queries and audits by name, policies and datasets of the store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import typer

from cli.main import app
from s2d_store.store import Store
from tests.support import synthetic


def completed(words: str) -> list[str]:
    """What bash is offered behind these words, the last of them unfinished."""
    environment = os.environ | {
        "_S2D_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "import sys; sys.argv = ['s2d']; from cli.main import app; app(prog_name='s2d')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_named_queries_and_audits() -> None:
    assert completed("s2d query pass_r") == ["pass_rate", "pass_rate_by_difficulty"]
    assert completed("s2d audit label") == ["label_splits"]


def commands(group: Any, path: str = "s2d") -> Iterator[tuple[str, Any]]:
    """Every command below a group, by what is typed."""
    context = group.make_context(path, [], resilient_parsing=True)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if hasattr(found, "list_commands"):
            yield from commands(found, f"{path} {name}")
        else:
            yield f"{path} {name}", found


def test_whatever_names_a_policy_dataset_or_engine_is_completed() -> None:
    named = {"policy", "policies", "student", "scorer", "dataset", "engine"}
    found = [
        (path, option.name, option._custom_shell_complete)
        for path, command in commands(typer.main.get_command(app))
        for option in command.params
        if option.name in named
    ]
    assert len(found) > 10
    assert not [(path, name) for path, name, completes in found if completes is None]


def test_policies_of_the_store(store: Store) -> None:
    synthetic.fill(store, name="teacher")
    assert completed(f"s2d trace --store {store.root} tea") == ["teacher"]
    assert completed(f"s2d trace --store {store.root}/none tea") == []
    assert completed("s2d generate --engine v") == ["vllm"]
