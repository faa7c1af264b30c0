"""What a run records of the command behind it: its words, secrets masked, and library versions."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import transformers

from s2d_store.runs import invocation, record
from s2d_store.runs.invocation import command_line, invoked, masked
from s2d_store.store import Store
from s2d_store.version import __version__
from tests.conftest import Cli


def test_a_run_records_its_command_and_the_versions_behind_it(
    cli: Cli, store: Store, questions: Path, teacher_folder: Path
) -> None:
    cli("prompts", "add", questions, "--store", store.root)
    words = ["generate", "--policy", str(teacher_folder), "--role", "teacher", "--limit", "1"]
    words += ["--max-tokens", "2", "--where", "meta <> 'it''s'", "--store", str(store.root)]
    assert cli(*words).code == 0
    ((argv, versions, attempt, recipe),) = store.sql(
        "SELECT argv, versions, attempt, recipe FROM runs"
    ).fetchall()
    assert (argv, attempt, recipe) == (["s2d", *words], 0, None)
    found = json.loads(versions)
    assert (found["s2d"], found["duckdb"]) == (__version__, duckdb.__version__)
    assert (found["pyarrow"], found["transformers"]) == (pa.__version__, transformers.__version__)
    assert {"python", "torch", "tokenizers", "deltalake"} <= found.keys()
    again = shlex.split(command_line(argv))
    assert again == ["s2d", *words[:-2]], "the store is told by whoever prints it"


def test_a_program_has_no_command_line_and_a_recipe_has_a_name(store: Store) -> None:
    with record.record_run(store, "a", "verify", {}):
        pass
    with invoked(argv=("s2d", "run"), recipe="r"), invoked(attempt=2):
        with record.record_run(store, "b", "verify", {}):
            pass
        assert invocation.current().recipe == "r"
    text = "SELECT run_id, argv, recipe, attempt FROM runs ORDER BY 1"
    assert store.sql(text).fetchall() == [("a", None, None, 0), ("b", ["s2d", "run"], "r", 2)]


def test_a_launched_trainer_is_told_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(invocation.RECIPE, "mine")
    assert invocation.current().recipe == "mine"
    monkeypatch.setenv(invocation.RECIPE, "")
    assert invocation.current().recipe is None


def test_secrets_of_a_command_line_are_masked() -> None:
    given = ["s2d", "x", "--engine-arg", "hf_token=hf_abcdefghijklmnopqrst", "--api-key", "s3cret"]
    given += ["--password=hunter22", "--n", "4", "https://me:pass@host/x", "--store", "/a b"]
    shown = masked(given)
    text = " ".join(shown)
    assert not any(word in text for word in ("abcdefghij", "s3cret", "hunter22", "me:pass"))
    assert shown[:3] == ("s2d", "x", "--engine-arg") and shown[-4:] == ("4", shown[-3], *given[-2:])
    assert command_line(["s2d", "--store=/x", "a b", "--store", "y", "c"]) == "s2d 'a b' c"
