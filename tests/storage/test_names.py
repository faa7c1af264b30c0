"""Names and ids become folders: none leads out of the store, whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2d_store.datasets.build import drop
from s2d_store.datasets.exports.run import export
from s2d_store.datasets.lock_file import folder_of, read_lock, with_checksum
from s2d_store.datasets.open import open_dataset
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError, InputError, S2DError
from s2d_store.ids import check_name
from s2d_store.storage.reserved_paths import refuse_store_path
from s2d_store.store import Store
from s2d_store.verifiers.pool import VerifierPool
from tests.conftest import Cli
from tests.support import synthetic

HOSTILE = {
    "parent": "..",
    "above": "../../victim",
    "absolute": "/etc",
    "inside": "a/b",
    "windows": "a\\b",
    "hidden": ".draft",
    "empty": "",
    "blank": " ",
    "nul": "a\0b",
    "newline": "a\n",
    "carriage return": "a\rb",
    "escape": "a\x1b[2J",
    "percent": "%2e%2e",
    "full-width dots": "\uff0e\uff0e",
    "one dot leader": "\u2024\u2024/x",
    "fraction slash": "a\u2044b",
    "right to left": "a\u202eb",
    "zero width": "a\u200bb",
    "combining": "e\u0301",
    "other digits": "a\u0663",
    "partition": "x/run_id=y",
    "hive null": "__HIVE_DEFAULT_PARTITION__",
    "equals": "a=b",
    "option": "-rf",
    "variable": "$HOME",
    "long": "a" * 101,
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_refused_wherever_it_becomes_a_folder(store: Store, name: str) -> None:
    with pytest.raises(InputError, match="is not a usable name"):
        folder_of(store, name)
    for use in (read_lock, drop, open_dataset):
        with pytest.raises(InputError, match="is not a usable name"):
            use(store, name)
    with pytest.raises(InputError, match="is not a usable name"), store.run_lock(name):
        pass


@pytest.mark.parametrize("column", ["run", "role", "verifier"])
@pytest.mark.parametrize("name", ["../../x", "a\0b", "x/run_id=y", "__HIVE_DEFAULT_PARTITION__"])
def test_a_partition_value_is_a_name(store: Store, column: str, name: str) -> None:
    synthetic.fill(store, n_prompts=1, n=1)
    before = sorted(store.folder.rglob("*"))
    hostile: dict[str, Any] = {"run": "other", column: name}
    with pytest.raises(InputError, match="is not a usable name"):
        synthetic.fill(store, n_prompts=1, n=1, **hostile)
    assert store.sql("SELECT count(*) FROM rollouts").fetchall() == [(1,)]
    new = set(store.folder.rglob("*")) - set(before)
    assert all(path.resolve().is_relative_to(store.folder.resolve()) for path in new)


@given(st.text(max_size=120))
def test_a_name_that_passes_is_one_visible_part_of_a_path(name: str) -> None:
    try:
        check_name(name, "dataset")
    except InputError:
        return
    path = Path("/store/datasets") / name
    assert path.parent == Path("/store/datasets") and path.name == name
    assert name.isascii() and name.isprintable() and not name.startswith((".", "-"))
    assert len(name.encode()) <= 100


COMMANDS = [
    ("dataset", "drop", "{name}"),
    ("dataset", "verify", "{name}"),
    ("dataset", "show", "{name}"),
    ("dataset", "diff", "{name}", "{name}"),
    ("dataset", "export", "{name}", "--output", "x.parquet"),
    ("dataset", "build", "{name}", "--query", "sft"),
    ("train", "sft", "--dataset", "{name}", "--student", "s", "--output", "out"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:2]))
def test_commands_leave_what_lies_outside_alone(
    cli: Cli, store: Store, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """A folder that looks like a dataset, beside the store."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "lock.json").write_text("{}")
    for name in ("../../victim", str(victim)):
        done = cli(*(part.format(name=name) for part in command), "--store", store.root)
        assert done.code == 1 and f"error: dataset {name!r} is not a usable name" in done.err
    assert [path.name for path in victim.iterdir()] == ["lock.json"]


@pytest.mark.parametrize("name", ["../../x", "a\nb", "a" * 101])
def test_runs_and_policies_are_named_safely_too(
    cli: Cli, store: Store, questions: Path, student_folder: Path, name: str
) -> None:
    where = ("--store", store.root)
    assert cli("prompts", "add", questions, "--source", "s", *where).code == 0
    done = cli("policies", "add", name, student_folder, *where)
    assert done.code == 1 and f"error: policy {name!r} is not a usable name" in done.err
    asked = ("generate", "--policy", student_folder, "--role", "student", "--max-tokens", 2)
    done = cli(*asked, "--run", name, *where)
    assert done.code == 1 and f"error: run {name!r} is not a usable name" in done.err
    assert store.sql("FROM rollouts").fetchall() == []


class Climber:
    """A verifier whose name would be a folder elsewhere."""

    name, version = "../../x", "1"

    def verify(self, response: str, answer: str) -> object:
        raise AssertionError("it is refused before it grades")


def test_a_verifier_is_refused_by_its_name_before_it_grades() -> None:
    with pytest.raises(S2DError, match=r"verifier '../../x' is not a usable name"):
        VerifierPool("tests.storage.test_names:Climber", 1)


@pytest.mark.parametrize("path", ["../w/part.parquet", "/etc/passwd", "a/b", "..", ""])
def test_a_lock_names_files_beside_it_alone(store: Store, path: str) -> None:
    folder = store.folder / "datasets" / "w"
    folder.mkdir(parents=True)
    lock = with_checksum(
        {"format_version": 1, "name": "w", "files": [{"path": path, "rows": 1, "bytes": 1}]}
    )
    (folder / "lock.json").write_text(json.dumps(lock))
    for read in (lambda: read_lock(store, "w"), lambda: LockedDataset.open(folder)):
        with pytest.raises(DatasetError, match="dataset w names the file"):
            read()


def test_outputs_stay_out_of_the_stores_own_files(cli: Cli, store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.folder)
    manifest = (store.root / "s2d.json").read_bytes()
    for output in (
        store.root / "s2d.json",
        store.root / "tables" / "rollouts" / "x.parquet",
        tmp_path / "link" / "datasets" / "x.csv",
        store.root / "mine" / ".." / "locks" / "x.csv",
    ):
        done = cli("query", "SELECT 1", "--output", output, "--store", store.root)
        assert done.code == 1 and "lies among the files of the store" in done.err
        assert not output.exists() or output.read_bytes() == manifest
    free = store.root / "report.csv"
    assert cli("query", "SELECT 1 AS a", "--output", free, "--store", store.root).code == 0
    assert refuse_store_path(store.root, tmp_path / "tables" / "x") == tmp_path / "tables" / "x"
    with pytest.raises(S2DError, match="no dataset"):
        export(store, "none", "parquet", store.folder / "tables" / "x")
