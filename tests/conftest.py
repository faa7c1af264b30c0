"""Fixtures that many tests share: tiny models, a store with prompts, the command line."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main
from s2d_store.storage.object_path import ObjectPath
from s2d_store.store import Store
from tests.support.object_server import BUCKET, Server, running
from tests.support.tiny_recipe import Write, held_out, written


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny_models import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("models") / "teacher", seed=1, layers=2)


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny_models import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("models") / "student", seed=2)


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL file of 8 labelled prompts."""
    path = tmp_path_factory.mktemp("prompts") / "sums.jsonl"
    rows = [{"question": f"{a}+{a + 1}=", "answer": str(2 * a + 1), "level": a} for a in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real S3 server on loopback, with an empty bucket."""
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(
    object_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ObjectPath]:
    """A prefix of that server's bucket, of this test's own, with the environment to reach it."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("S2D_CACHE", str(tmp_path / "cache"))
    yield ObjectPath.parse(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that passes every audit (audit_rows.fill), to be copied before it is changed."""
    from tests.support import audit_rows

    store = Store.init(tmp_path_factory.mktemp("sound") / "store")
    audit_rows.fill(store)
    return store


@pytest.fixture(scope="session")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store whose spending is counted by hand (spending.experiment), to be copied as well."""
    from tests.support import spending

    store = Store.init(tmp_path_factory.mktemp("spent") / "store")
    spending.experiment(store)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.init(tmp_path / "store")


@dataclass
class Result:
    """What a command printed and its exit status."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Run `s2d ARGS` in this process, through the same entry point as the installed command."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["s2d", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    yield run


@pytest.fixture
def ctrl_c_raises() -> Iterator[None]:
    """A shell starts what it runs in the background with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def recipe(
    tmp_path: Path,
    questions: Path,
    teacher_folder: Path,
    student_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Write:
    """Write the tiny recipe into a folder, some of its text replaced."""
    from tests.verifiers.test_verify_command import LENGTH_VERIFIER

    (tmp_path / "my_verifiers.py").write_text(LENGTH_VERIFIER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(place: str = "a", *changes: tuple[str, str]) -> Path:
        models = {"teacher": teacher_folder, "student": student_folder}
        test = held_out(tmp_path)
        return written(tmp_path / place, changes, test, questions=questions, **models)

    return write
