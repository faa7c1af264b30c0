"""`s2d import`: one command per dump, what it says, and what may be wrong with a file."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from s2d_store.importers import registry
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support.dump_rows import dumps


def verl_rows(n: int, step: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "input": f"{i // 2}+1=",
            "output": f"\\boxed{{{i}}}",
            "gts": "1",
            "score": 1.0,
            "step": step,
        }
        for i in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def run(cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """`s2d import ARGS` into a store, from a folder of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def imported(*arguments: object) -> Result:
        return cli("import", *arguments, "--store", store.root)

    return imported


def count(store: Store, table: str = "rollouts") -> int:
    ((n,),) = store.sql(f"SELECT count(*) FROM {table}").fetchall()
    return int(n)


# Rollouts of each folder of dumps, as its README counts them.
FOLDERS = {
    "nemo_gym": 5,
    "lm_eval": 10,
    "verifiers_v0": 6,
    "prime_rl": 13,
    "verl": 18,
    "open_instruct": 12,
    "slime": 12,
    "trl": 32,
    "vllm_batch": 12,
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_dump_is_one_command(run: Cli, store: Store, folder: str) -> None:
    if folder == "slime":
        pytest.importorskip("torch")
    done = run("auto", dumps() / folder, "--policy", "outside")
    assert (done.code, count(store)) == (0, FOLDERS[folder]), done.err
    assert f"{FOLDERS[folder]} rollouts imported" in done.out
    again = run("auto", dumps() / folder, "--policy", "outside")
    assert "0 rollouts imported" in again.out and count(store) == FOLDERS[folder]


def test_a_log_of_two_models_makes_two_policies(run: Cli, store: Store) -> None:
    assert run("auto", dumps() / "inspect").code == 0
    assert store.sql("SELECT name FROM policies ORDER BY name").fetchall() == [
        ("ollama--llama3.1",),
        ("openai--gpt-4o-mini",),
    ]
    refused = run("auto", dumps() / "inspect", "--policy", "one")
    assert "1: of model" in refused.out and count(store) == 21


def test_a_plan_stores_nothing(run: Cli, store: Store) -> None:
    planned = run("verl", dumps() / "verl", "--policy", "p", "--plan")
    assert (planned.code, count(store), count(store, "runs")) == (0, 0, 0)
    assert "would import 18 rollouts from 2 verl files" in planned.out
    assert "gts" in planned.out and "nothing is stored" in planned.out
    assert "6 groups: 3 of 4, 3 of 2" in planned.out


def test_packed_files_are_the_files(run: Cli, store: Store, tmp_path: Path) -> None:
    plain = write(tmp_path / "d" / "1.jsonl", verl_rows(6))
    raw = plain.read_bytes()
    (tmp_path / "d" / "1.jsonl.gz").write_bytes(gzip.compress(raw))
    with pa.CompressedOutputStream(str(tmp_path / "d" / "1.jsonl.zst"), "zstd") as packed:
        packed.write(raw)
    with zipfile.ZipFile(tmp_path / "d" / "1.jsonl.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jsonl", raw)
    done = run("auto", tmp_path / "d", "--policy", "p")
    assert "6 rollouts imported from 4 verl files" in done.out
    assert "18 rollouts left out: stored before, or copies of others" in done.out
    assert count(store) == 6


def test_overlapping_files_add_what_is_new(run: Cli, store: Store, tmp_path: Path) -> None:
    """A group that goes on in another file goes on counting, too."""
    rows = [*verl_rows(2), verl_rows(2)[0] | {"output": "7"}]
    one = write(tmp_path / "a" / "1.jsonl", rows[:2])
    two = write(tmp_path / "b" / "1.jsonl", rows)
    run("verl", one, "--policy", "p")
    run("verl", two, "--policy", "p")
    found = store.sql(
        "SELECT response_text, sample_index FROM rollouts ORDER BY sample_index"
    ).fetchall()
    assert found == [("\\boxed{0}", 0), ("\\boxed{1}", 1), ("7", 2)]


def test_equal_rows_of_one_file_are_rollouts_of_their_own(
    run: Cli, store: Store, tmp_path: Path
) -> None:
    """Two samples of a group may well be the same text."""
    path = write(tmp_path / "1.jsonl", verl_rows(1) * 3)
    run("verl", path, "--policy", "p")
    run("verl", path, "--policy", "p")
    assert count(store) == 3


def test_what_cannot_be_held_is_listed(run: Cli, store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "1.jsonl", verl_rows(2))
    with path.open("a") as file:
        file.write('{"input": "x", "output": NaN\n')
        file.write('{"input": "x"}\n')
        file.write('["a list"]\n')
        file.write('{"input": "\\ud800", "output": "y", "score": 1, "step": 1}\n')
        file.write('{"input": "x", "output": "y", "score": NaN, "step": 1}\n')
        file.write('{"input": "x", "output": "cut')
    done = run("verl", path, "--policy", "p")
    assert (done.code, count(store)) == (0, 3)
    (listed,) = Path.cwd().glob("import-verl-*-rejects.jsonl")
    rejects = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(r["file"], r["line"]) for r in rejects] == [("1.jsonl", n) for n in (3, 4, 5, 6, 8)]
    assert f"5 rows refused, listed in {listed.name}" in done.out
    assert "2: not JSON, or a line that was cut" in done.out
    assert "1: not a record of this format or version" in done.out
    assert "1: half of a surrogate pair in a text" in done.out
    text = "SELECT count(*) FROM rewards WHERE reward IS NULL AND outcome = 'reported'"
    assert store.sql(text).fetchall() == [(1,)]


def test_a_cut_archive_gives_what_came_before(run: Cli, store: Store, tmp_path: Path) -> None:
    raw = gzip.compress(write(tmp_path / "x" / "1.jsonl", verl_rows(4000)).read_bytes())
    cut = tmp_path / "1.jsonl.gz"
    cut.write_bytes(raw[: len(raw) // 2])
    done = run("verl", cut, "--policy", "p")
    assert "1: the file ends in the middle, or is damaged" in done.out
    assert 0 < count(store) < 4000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verl", "x.jsonl"), "no file or folder x.jsonl"),
        (("verll", "1.jsonl"), "no importer 'verll'; did you mean 'verl'?"),
        (("trl", "1.jsonl"), "1.jsonl is not a file of trl"),
        (("auto", "other.jsonl"), "none of the files is of a format that s2d knows"),
        (("auto", "."), "the files are of 2 formats: lm-eval, verl"),
        (("verl", "1.jsonl", "--policy", "a/b"), "policy 'a/b' is not a usable name"),
        (("verl", "1.jsonl"), "the file does not say which model sampled: pass --policy NAME"),
        (("verl", "1.jsonl", "--tokenizer", "none"), "no policy 'none' in this store"),
        (("verl", "1.jsonl", "--map", "text=output"), "--map goes with format map"),
        (("map", "1.jsonl", "--map", "txt=output"), "names an unknown field; did you mean 'text'?"),
        (("map", "1.jsonl", "--map", "prompt=input"), "no --map says where the response is"),
    ],
)
def test_a_mistake_is_one_error(
    run: Cli, store: Store, arguments: tuple[str, ...], said: str
) -> None:
    write(Path("1.jsonl"), verl_rows(2))
    write(Path("other.jsonl"), [{"a": 1}])
    write(Path("samples.jsonl"), [{"doc_id": 0, "resps": [], "filtered_resps": []}])
    done = run(*arguments)
    assert done.code == 1 and said in done.err
    assert "Traceback" not in done.err and count(store) == 0


def test_a_batch_with_an_id_twice(run: Cli, store: Store, tmp_path: Path) -> None:
    for name in ("in.jsonl", "out.jsonl"):
        text = (dumps() / "vllm_batch" / name).read_text()
        (tmp_path / name).write_text(text)
    first = (tmp_path / "out.jsonl").read_text().splitlines()[0]
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write(first + "\n")
        file.write(first.replace('"chat-0"', '"gone"') + "\n")
    done = run("auto", tmp_path / "out.jsonl", "--policy", "p")
    assert "1: a custom_id that stands above already" in done.out
    assert "1: its request is missing, and so its prompt" in done.out
    assert count(store) == 12


def test_a_policy_with_weights_is_one_version(
    run: Cli, cli: Cli, store: Store, tmp_path: Path, student_folder: Path
) -> None:
    cli("policies", "add", "ours", student_folder, "--store", store.root)
    path = write(tmp_path / "1.jsonl", verl_rows(3) + verl_rows(2, step=2))
    done = run("verl", path, "--policy", "ours")
    assert "2: of version 2, and ours with its weights is one" in done.out
    rows = store.sql("SELECT policy, count(*) FROM graded_rollouts GROUP BY ALL").fetchall()
    assert rows == [("ours", 3)]


def test_every_importer_says_what_it_does() -> None:
    for name in registry.names():
        importer = registry.find(name)
        assert importer.columns and importer.about and importer.version
