"""docs/extending.md, run as it stands: a package of plug-ins, a dataset kind, an audit."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2d_store import plugins
from s2d_store.datasets.lock_file import read_lock
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support.processes import REPOSITORY
from tests.support.tiny_recipe import Write
from trainers.__main__ import main

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "docs" / "extending.md"
BLOCK = re.compile(r"`([\w./]+)`[^`\n]*:\n\n```\w+\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    teacher_folder: Path,
    student_folder: Path,
    questions: Path,
) -> Path:
    """A folder with the page's files, its package installed in `site`."""
    folder = tmp_path_factory.mktemp("extending")
    files = dict(BLOCK.findall(PAGE.read_text()))
    assert {"pyproject.toml", "my_s2d/focal.py", "shortest.sql", "recipe.toml"} <= set(files)
    places = {"TEACHER": teacher_folder, "STUDENT": student_folder, "PROMPTS": questions}
    for name, text in files.items():
        file = folder / "site" / name if name.startswith("my_s2d/") else folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        for word, at in places.items():
            text = text.replace(f'"{word}"', f'"{at}"')
        file.write_text(text)
    (folder / "site" / "my_s2d" / "__init__.py").touch()
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = folder / "site" / "my_s2d-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-s2d\nVersion: 1.0\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in e.items()) for g, e in groups)
    )
    return folder


@pytest.fixture
def installed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package is found as an installed one is; the page's folder is the working directory."""
    monkeypatch.syspath_prepend(place / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(place / "site"), str(REPOSITORY))))
    monkeypatch.setenv("S2D_STORE", "store")
    monkeypatch.chdir(place)
    plugins.registered.cache_clear()
    yield place
    plugins.registered.cache_clear()


def test_the_page_runs_as_it_stands(installed: Path, cli: Cli) -> None:
    done = cli("run", "recipe.toml", "--quiet")
    assert done.code == 0, done.err
    store = Store.open(installed / "store")
    lock = read_lock(store, "own.short")
    assert (lock["kind"], lock["query"], lock["counts"]["updates"]) == ("shortest", "shortest", 4)
    rows = store.sql("SELECT kind, labels, on_policy, rollouts, has_topk FROM dataset_traits")
    assert rows.fetchall() == [("shortest", "none", False, "teacher", False)]
    assert store.sql("SELECT DISTINCT engine FROM rollouts").fetchall() == [("threads",)]
    config = store.sql("SELECT config FROM runs WHERE kind = 'train'").fetchall()[0][0]
    assert json.loads(config)["gamma"] == 1.0

    # Another text of the query is another round.
    query = installed / "shortest.sql"
    text = query.read_text()
    query.write_text(text.replace("purpose = 'train'", "purpose <> 'eval'"))
    changed = cli("run", "recipe.toml")
    query.write_text(text)
    assert changed.code == 1 and "short was begun with other settings" in changed.err

    built = cli("dataset", "build", "again", "--query", query, "-p", "policy=teacher")
    assert built.code == 0, built.err
    given = ("--dataset", "again", "--student", "student", "--output", "again", "--gamma", "0.5")
    trained = cli("train", "focal", *given)
    assert trained.code == 0 and "4 updates" in trained.out, trained.err
    verified = cli("verify", "--verifier", "ends-with", "--n-workers", "1")
    assert verified.code == 0 and "rollouts graded" in verified.out, verified.err
    found = cli("audit", installed / "long_answers.sql")
    assert found.code == 1 and "long_answers" in found.out, found.err


def test_plug_ins_are_listed_and_refused_like_built_in_ones(installed: Path, cli: Cli) -> None:
    listed = cli("train", "--help")
    assert "focal" in listed.out and "Cross-entropy that dwells" in listed.out
    assert "--gamma" in cli("train", "focal", "--help").out
    assert main(["--help"]) == 0
    many = (installed / "recipe.toml").read_text().replace("n = 2,", "n = 2, top_logprobs = 21,")
    (installed / "many.toml").write_text(many)
    refused = cli("run", "many.toml")
    assert (
        refused.code == 1
        and (
            "[stage.short]: engine threads cannot keep a top k of 21\n"
            "  why: it returns at most 20 logprobs per token\n"
        )
        in refused.err
    )


def test_a_broken_plug_in_is_one_error(
    installed: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "my_s2d.rows", None)
    broken = cli("train", "focal", "--help")
    assert broken.code == 1 and "Traceback" not in broken.err
    assert "s2d.trainers 'focal': cannot import my_s2d.rows:FOCAL" in broken.err


def test_a_query_of_another_kind_is_refused(cli: Cli, recipe: Write) -> None:
    file = recipe("kind", ('kind = "opd"', 'kind = "opd"\nquery = "mine.sql"'))
    missing = cli("run", file)
    assert missing.code == 1 and f"no SQL file {file.parent / 'mine.sql'}" in missing.err
    shipped = (REPOSITORY / "queries" / "datasets" / "opd.sql").read_text()
    (file.parent / "mine.sql").write_text(shipped)
    other = cli("run", file)
    assert other.code == 1 and "its query mine.sql makes datasets of kind mine" in other.err
    header = shipped.replace("-- needs:", "-- kind: opd\n-- needs:", 1)
    (file.parent / "mine.sql").write_text(header)
    assert cli("run", file, "--plan").code == 0
    (file.parent / "mine.sql").write_text(header.replace("-- rollouts: own", "-- rollouts: mine"))
    wrong = cli("run", file, "--plan")
    assert wrong.code == 1 and "'-- rollouts: mine', which is not one of own, tea" in wrong.err
