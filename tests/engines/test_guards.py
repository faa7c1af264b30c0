"""What stops a run before it starts, by one clear error, and what stops it before a bad step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import queries
from s2d_store.datasets.build import build
from s2d_store.errors import InputError, TrainingError
from s2d_store.policies import registry
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.config import GRPOConfig, OPDConfig, SFTConfig, TrainerConfig
from trainers.grpo import train_grpo
from trainers.opd import train_opd
from trainers.sft import train_sft

S2D = Callable[..., Result]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def growing(updates: dict[int, int]) -> list[dict[str, Any]]:
    """Six rows per update, whose responses all have the update's number of tokens."""
    rows = bigram_rows([update for update in updates for _ in range(6)], longest=1)
    long = bigram_rows([1] * 40, longest=1)
    for row in rows:
        # Responses of one token each, end to end, stand for a longer one.
        for name in row:
            if name.startswith(("response_", "topk_", "sampled_")):
                parts = [list(other[name]) for other in long[: updates[row["update"]]]]
                row[name] = [value for part in parts for value in part]
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student, and the same rows for three trainers: the third update is ten times as long."""
    place = tmp_path_factory.mktemp("guards")
    save_tiny_model(place / "student")
    for kind in ("opd", "grpo", "sft"):
        write_locked(place / kind, growing({1: 3, 2: 9, 3: 30, 4: 4}), kind=kind)
    return place


def config(place: Path, output: Path, config_class: Any, kind: str, **changes: Any) -> Any:
    return config_class(
        dataset=str(place / kind), student=str(place / "student"), output=str(output), **changes
    )


def updates_of(output: Path) -> list[int]:
    lines = (output / "updates.jsonl").read_text().splitlines()
    return [json.loads(line)["update"] for line in lines]


@pytest.mark.parametrize(
    ("kind", "train", "config_class"),
    [("opd", train_opd, OPDConfig), ("grpo", train_grpo, GRPOConfig)],
)
def test_runaway_length_stops_before_the_step_and_can_be_continued(
    place: Path, tmp_path: Path, kind: str, train: Any, config_class: type[TrainerConfig]
) -> None:
    message = (
        r"update 3 has responses of 30 tokens on average, above 4 times the first update's 3\n"
        r"(?s:.*)newest checkpoint(?s:.*)--max-length-ratio"
    )
    given = config(place, tmp_path / "run", config_class, kind)
    for _ in range(2):  # A run that resumes right there knows the first update's length, too.
        with pytest.raises(TrainingError, match=message):
            train(given)
        assert updates_of(tmp_path / "run") == [1, 2]
        checkpoints = [p.name for p in (tmp_path / "run").glob("checkpoint-*")]
        assert checkpoints == ["checkpoint-00000002"]
    result = train(config(place, tmp_path / "run", config_class, kind, max_length_ratio=11))
    assert (result.resumed_update, updates_of(tmp_path / "run")) == (2, [1, 2, 3, 4])
    train(config(place, tmp_path / "whole", config_class, kind, max_length_ratio=0))
    for name, tensor in load_file(tmp_path / "whole" / "final" / "model.safetensors").items():
        again = load_file(tmp_path / "run" / "final" / "model.safetensors")[name]
        assert torch.equal(tensor, again), name


def test_rounds_are_measured_by_the_first_of_them(place: Path, tmp_path: Path) -> None:
    for name, lengths in (("second", {1: 6, 2: 8}), ("third", {1: 13, 2: 3})):
        write_locked(tmp_path / name, growing(lengths), kind="opd")
    given = {"max_length_ratio": 4.0, "continue_optimizer": True}
    train_opd(config(place, tmp_path / "1", OPDConfig, "opd", max_length_ratio=0.0))
    rounds = [("second", "1"), ("third", "2")]
    configs = [
        OPDConfig(
            dataset=str(tmp_path / name),
            student=str(tmp_path / before / "final"),
            output=str(tmp_path / str(int(before) + 1)),
            **given,  # type: ignore[arg-type]
        )
        for name, before in rounds
    ]
    train_opd(configs[0])
    with pytest.raises(TrainingError, match=r"13 tokens on average, above 4 times .* update's 3\n"):
        train_opd(configs[1])


def test_length_of_anothers_samples_stops_only_where_asked(place: Path, tmp_path: Path) -> None:
    train_sft(config(place, tmp_path / "run", SFTConfig, "sft"))
    with pytest.raises(TrainingError, match="update 2 has responses of 9 tokens"):
        train_sft(config(place, tmp_path / "other", SFTConfig, "sft", max_length_ratio=2.5))
    with pytest.raises(InputError, match=r"max_length_ratio is -1"):
        config(place, tmp_path / "other", SFTConfig, "sft", max_length_ratio=-1.0)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    questions: Path,
    teacher_folder: Path,
    student_folder: Path,
) -> Store:
    """A store with a student and datasets `first` and `second`, of 2 updates each."""
    root = tmp_path_factory.mktemp("made") / "store"
    records = made_stores.read(questions)
    store = made_stores.make(root, records, teacher_folder, role="teacher", n=2, top_logprobs=5)
    registry.find_or_register(store, "student", str(student_folder))
    given = {"teacher": "teacher", "rows_per_update": "8"}
    every = {"correct_only": "false", "finished_only": "false"}
    for seed, name in enumerate(("first", "second")):
        build(store, name, queries.catalog()["warmup"], given | every, seed, copy_rows=True)
    return store


@pytest.fixture
def s2d(cli: Cli, made: Store, tmp_path: Path) -> S2D:
    """Commands as one string, on a copy of the store."""
    store = made_stores.copy(made, tmp_path / "store")
    return lambda command: cli(*command.split(), "--store", store.root)


def swapped_tokenizer(place: Path) -> str:
    return f"train warmup --dataset first --student {save_tiny_model(place, vocab='swapped')}"


MISTAKES: dict[str, tuple[str, str]] = {
    "kind": (
        "train opd --dataset first --student student",
        "error: dataset first is of kind warmup\n"
        "  why: opd trains on datasets of kind opd or fresh_opd\n"
        "  fix: s2d train warmup --dataset first ...",
    ),
    "bf16": (
        "train warmup --dataset first --student student --precision bf16",
        "error: precision is bf16, but no GPU here computes in bfloat16\n",
    ),
    "tracker": (
        "train warmup --dataset first --student student --trackers paper",
        "error: tracker 'paper' is unknown\n",
    ),
    "tokenizer": ("", "has another tokenizer than dataset first\n"),
    "checkpoint": (
        "train warmup --dataset second --student student",
        "belongs to another run\n  why: dataset fingerprint was ",
    ),
    "size": ("train warmup --dataset first --student student", "bytes\n  why: the lock says "),
    "missing": (
        "train warmup --dataset first --student student",
        "part-00000.parquet is missing\n  why: the lock lists it\n  fix: s2d dataset verify first",
    ),
    "edited": (
        "train warmup --dataset first --student student",
        "error: the lock of dataset first was changed after it was written\n",
    ),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_what_cannot_work_is_one_error_before_any_work(
    s2d: S2D, tmp_path: Path, mistake: str
) -> None:
    if mistake == "bf16" and torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    command, says = MISTAKES[mistake]
    command = command or swapped_tokenizer(tmp_path / "swapped")
    output = tmp_path / "out"
    if mistake == "checkpoint":
        first = f"train warmup --dataset first --student student --quiet --output {output}"
        assert s2d(first).code == 0
    store = Store.open(tmp_path / "store")
    part = store.root / "datasets" / "first" / "part-00000.parquet"
    if mistake == "size":
        part.write_bytes(part.read_bytes() + b"x")
    if mistake == "missing":
        part.unlink()
    if mistake == "edited":
        lock = part.with_name("lock.json")
        lock.write_text(lock.read_text().replace('"rows_per_update": 8', '"rows_per_update": 4'))
    before = {str(p): p.stat().st_mtime_ns for p in output.rglob("*")}
    runs = store.sql("SELECT run_id, status FROM runs ORDER BY ALL").fetchall()
    done = s2d(f"{command} --output {output}")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ") and says in done.err, done.err
    assert "Traceback" not in done.err and "update 1" not in done.err
    assert before == {str(p): p.stat().st_mtime_ns for p in output.rglob("*")}
    found = Store.open(tmp_path / "store").sql("SELECT run_id, status FROM runs ORDER BY ALL")
    assert found.fetchall() == runs, "nothing was begun"
