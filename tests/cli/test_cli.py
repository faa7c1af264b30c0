"""The `s2d` command as a whole: light imports, help, options that all share, small commands."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli import examples
from cli.commands import COMMANDS
from cli.help import split_help
from cli.main import app
from s2d_store.store import Store
from s2d_store.version import __version__
from tests.conftest import Cli
from tests.support import synthetic
from tests.support.tiny_models import save_tiny_model

HEAVY = ("torch", "vllm", "transformers", "accelerate", "datasets", "math_verify", "sympy")
MODULES = {
    "rich", "duckdb", "pyarrow", "numpy", "scipy", "starlette",
    *(entry.target.partition(":")[0] for entry in COMMANDS.values()),
}  # fmt: skip
_LOADED = f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_imports_load_no_heavy_library() -> None:
    done = python(f"import s2d_store.store, queries, cli.main\n{_LOADED}")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_command_line_itself_loads_no_store() -> None:
    heavy = {"duckdb", "deltalake", "numpy", "polars", "pyarrow", "transformers", "starlette"}
    done = python(f"import sys, cli.main\nprint(sorted({heavy!r} & set(sys.modules)))")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("query", "SELECT 1"), ("info",)])
def test_commands_without_a_model_load_no_heavy_library(
    store: Store, arguments: tuple[str, ...]
) -> None:
    code = (
        "import sys; from cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('loaded'); {_LOADED}\n"
        "assert 'duckdb' not in sys.modules or sys.argv[1] == 'query', 'only SQL needs it'"
    )
    at = () if arguments == ("--help",) else ("--store", str(store.root))
    done = python(code, *arguments, *at)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("loaded\n[]\n")


def test_help_imports_no_command() -> None:
    code = "import sys; from cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    done = python(f"{code}print([m for m in sys.modules if m in {MODULES!r}])", "--help")
    assert done.stdout.endswith("\n[]\n"), done.stdout
    assert "Sample and grade:" in done.stdout


def test_a_query_builds_only_what_it_names(store: Store) -> None:
    con = store.connect(text="FROM policies")
    made = con.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    tables = con.sql("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
    assert {name for (name,) in [*made, *tables]} == {"policies"}


def test_the_version(cli: Cli) -> None:
    assert cli("--version").out == f"s2d {__version__}\n"


def commands() -> Iterator[tuple[str, ...]]:
    """Every command's words, groups included."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*words, name))

    yield from walk(typer.main.get_command(app), ())


def test_help_lists_every_command(cli: Cli) -> None:
    done = cli("--help")
    assert (done.code, done.err) == (0, "")
    top = {words[0] for words in commands() if words}
    expected = {"init", "prompts", "policies", "generate", "verify", "score", "query", "dataset"}
    assert expected | {"train", "info", "vacuum"} <= top
    assert all(f" {name} " in done.out for name in top)


@pytest.mark.parametrize("words", [words for words in commands() if words], ids=" ".join)
def test_every_command_explains_itself(cli: Cli, words: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        done = cli(*words, flag)
        assert (done.code, done.err) == (0, "")
        assert f"s2d {' '.join(words)}" in done.out
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    assert command.help, "what it does"
    for option in command.params:
        assert getattr(option, "help", "") or option.name == "help", f"{words}: {option.name}"


@pytest.mark.parametrize("words", [" ".join(w) for w in commands() if w], ids=str)
def test_every_example_parses(words: str) -> None:
    command: Any = typer.main.get_command(app)
    for word in words.split():
        command = command.commands[word]
    if getattr(command, "commands", None) and words != "budget":
        return
    _, example = split_help(command.help, words)
    assert example, "cli/examples.py has one of each command, or its docstring under Example:"
    for line in example.splitlines():
        assert line.startswith(f"s2d {words}")
        given = shlex.split(line)[len(words.split()) + 1 :]
        # Parsed as if it were run, and not run.
        command.make_context(words, given)


def test_help_shows_groups_choices_defaults_and_the_example(cli: Cli) -> None:
    text = " ".join(cli("generate", "--help").out.split())
    assert "Engine: --device" in text and "[default: transformers]" in text
    assert "teacher|student" in text and examples.of("generate") in text


def test_a_wrong_option_or_command_is_a_usage_error(cli: Cli) -> None:
    for arguments in (
        ("generat",),
        ("info", "--stoor", "x"),
        ("generate",),
        ("generate", "--n", "x"),
    ):
        done = cli(*arguments)
        assert done.code == 2
        assert "Traceback" not in done.err and "Usage" in done.err


def test_init_twice_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "new"
    first = cli("init", "--store", root)
    assert (first.code, first.out) == (0, f"store ready at {root}\n")
    manifest = (root / "s2d.json").read_text()
    assert cli("init", "--store", root).out == first.out
    assert (root / "s2d.json").read_text() == manifest
    (tmp_path / "notes.txt").write_text("mine")
    done = cli("init", "--store", tmp_path)
    assert done.code == 1 and "is not empty and not an s2d store" in done.err


def test_the_store_comes_from_the_environment_too(
    cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("S2D_STORE", str(store.root))
    assert f"store {store.root}, format version" in cli("info").out
    monkeypatch.delenv("S2D_STORE")
    monkeypatch.chdir(tmp_path)
    done = cli("info")
    assert done.code == 1 and f"error: no store at {tmp_path / 's2d-store'}" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("info",),
        ("vacuum",),
        ("policies", "list"),
        ("policies", "add", "a", "b"),
        ("prompts", "add", "x.jsonl"),
        ("generate", "--policy", "p", "--role", "teacher"),
        ("verify",),
        ("score", "--scorer", "p", "--top-logprobs", "3"),
        ("dataset", "list"),
        ("dataset", "build", "d", "--query", "warmup"),
        ("train", "warmup", "--dataset", "d", "--student", "s", "--output", "o"),
    ],
    ids=" ".join,
)
def test_every_command_needs_a_store(cli: Cli, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "--store", tmp_path / "none")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: no store at {tmp_path / 'none'}")
    assert "fix: s2d init --store" in done.err


def test_policies_are_registered_with_parents_and_listed(
    cli: Cli, store: Store, student_folder: Path, tmp_path: Path
) -> None:
    child = save_tiny_model(tmp_path / "child", seed=9)
    at = ("--store", store.root)
    first = cli("policies", "add", "base", student_folder, *at)
    assert first.code == 0 and first.out.startswith("policy base is ")
    assert cli("policies", "add", "base", student_folder, *at).out.startswith(first.out)
    assert cli("policies", "add", "tuned", child, "--parent", "base", *at).code == 0
    rows = [line.split() for line in cli("policies", "list", *at).out.splitlines()]
    parent = rows[0].index("parent")
    assert [(row[0], row[parent]) for row in rows] == [
        ("name", "parent"),
        ("base", "-"),
        ("tuned", "base"),
    ]
    for options, says in (
        (("base", child), "policy name 'base' cannot be given to"),
        (("other", child), "use its registered name 'tuned'"),
        (("a/b", child), "policy 'a/b' is not a usable name"),
        (("new", tmp_path), "lacks config.json"),
        (
            ("new", child, "--parent", "bsae"),
            "no policy 'bsae' in this store; did you mean 'base'?",
        ),
    ):
        done = cli("policies", "add", *options, *at)
        assert (done.code, done.out) == (1, "")
        assert says in done.err


def test_a_policy_that_changed_on_disk_is_refused(
    cli: Cli, store: Store, questions: Path, tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path / "model", seed=9)
    at = ("--store", store.root)
    cli("policies", "add", "mine", folder, *at)
    cli("prompts", "add", questions, *at)
    save_tiny_model(folder, seed=10)
    done = cli("generate", "--policy", "mine", "--role", "student", *at)
    assert done.code == 1
    assert "error: policy 'mine' has changed on disk" in done.err


def test_info_and_vacuum_count_what_is_there(cli: Cli, store: Store) -> None:
    synthetic.fill(store)
    at = ("--store", store.root)
    lines = {line.split()[0]: line.split() for line in cli("info", *at).out.splitlines()[2:]}
    assert (lines["rollouts"][1], lines["prompts"][1], lines["updates"][1]) == ("24", "6", "0")
    assert cli("vacuum", *at).out == (
        "0 unfinished commits completed\n0 uncommitted files removed (0 bytes)\n"
    )
    assert "0 uncommitted files would be removed" in cli("vacuum", "--dry-run", *at).out


def test_a_reader_that_goes_away_is_no_error(store: Store) -> None:
    text = "SELECT * FROM range(1000000) AS r (i)"
    command = [sys.executable, "-m", "cli.main", "query", text, "--format", "csv"]
    process = subprocess.Popen(
        [*command, "--store", str(store.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"i\n"
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert errors == b""


def test_the_installed_command_is_this_one() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="s2d")
    assert script.value == "cli.main:main"
