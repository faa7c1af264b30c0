from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import trainers.update
from s2d_store.config_fields import field_help
from s2d_store.errors import DatasetError, InputError, TrainingError
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.processes import environment, run_together
from tests.support.tiny_models import save_tiny_model
from trainers.__main__ import main
from trainers.config import (
    BridgeContinuationConfig,
    GRPOConfig,
    OPDConfig,
    SFTConfig,
    TrainerConfig,
    WarmupConfig,
)
from trainers.config_options import parse_config
from trainers.schedule import lr_factor
from trainers.warmup import train_warmup

pytestmark = pytest.mark.slow

N_UPDATES = 8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `student` and `data`: 8 updates of 6 rows."""
    place = tmp_path_factory.mktemp("warmup")
    save_tiny_model(place / "student")
    rows = bigram_rows([1 + i // 6 for i in range(6 * N_UPDATES)])
    write_locked(place / "data", rows, rows_a_group=7)
    return place


def config_for(place: Path, output: Path, **changes: Any) -> WarmupConfig:
    values: dict[str, Any] = {
        "dataset": str(place / "data"),
        "student": str(place / "student"),
        "output": str(output),
        "lr": 3e-3,
        "lr_schedule": "cosine",
        "lr_warmup_updates": 2,
        "weight_decay": 0.1,
        "max_tokens_per_micro_batch": 48,
        "checkpoint_every_updates": 3,
    }
    return WarmupConfig(**{**values, **changes})


def final_weights(output: Path) -> dict[str, Tensor]:
    return load_file(output / "final" / "model.safetensors")


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "updates.jsonl").read_text().splitlines()]


def without_seconds(output: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records(output)]


def assert_equal_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_warmup(config_for(place, place / "uninterrupted"))
    torch.set_num_threads(threads)
    return place / "uninterrupted"


class Stop(Exception):
    pass


def stop_at(update: int) -> Any:
    def on_update(record: dict[str, Any]) -> None:
        if record["update"] == update:
            raise Stop

    return on_update


def test_loss_falls_and_every_update_is_recorded(place: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    result = train_warmup(config_for(place, tmp_path / "run", lr=1e-2), seen.append)
    assert records(tmp_path / "run") == seen
    assert [r["update"] for r in seen] == list(range(1, N_UPDATES + 1))
    assert seen[-1]["loss"] < 0.8 * seen[0]["loss"]
    assert result.updates == N_UPDATES and result.resumed_update == 0
    for total, name in ((result.rows, "rows"), (result.response_tokens, "response_tokens")):
        assert sum(r[name] for r in seen) == total
    # Half of the 6 rows are labelled; they are of 3 different prompts.
    assert [r["labels"] for r in seen] == [3] * N_UPDATES
    assert seen[0]["lr"] == pytest.approx(0.5e-2) and seen[1]["lr"] == pytest.approx(1e-2)
    assert all(r["loss"] == r["kl"] > 0 and 0 < r["topk_mass"] < 1 for r in seen)


def test_final_model_loads_with_the_students_own_tokenizer(
    place: Path, uninterrupted: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    final = uninterrupted / "final"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (final / name).read_bytes() == (place / "student" / name).read_bytes()
    assert AutoTokenizer.from_pretrained(final).encode("a")
    model = AutoModelForCausalLM.from_pretrained(final)
    before = load_file(place / "student" / "model.safetensors")
    assert any(not torch.equal(model.state_dict()[n], t) for n, t in before.items())


def test_same_dataset_and_config_give_the_same_weights(
    place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    train_warmup(config_for(place, tmp_path / "again"))
    assert_equal_weights(final_weights(uninterrupted), final_weights(tmp_path / "again"))
    assert without_seconds(tmp_path / "again") == without_seconds(uninterrupted)


@pytest.mark.parametrize(
    "changes",
    [{}, {"max_tokens_per_micro_batch": 10_000}, {"gradient_checkpointing": True}],
)
def test_how_rows_are_batched_changes_rounding_only(
    place: Path,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    if not changes:
        monkeypatch.setattr("trainers.student._choose_layout", lambda *_: "packed")
    train_warmup(config_for(place, tmp_path / "other", **changes))
    expected = final_weights(uninterrupted)
    for name, tensor in final_weights(tmp_path / "other").items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("stop", [1, 5, N_UPDATES])
def test_stopped_run_continues_to_equal_weights(
    place: Path, uninterrupted: Path, tmp_path: Path, stop: int
) -> None:
    config = config_for(place, tmp_path / "run")
    with pytest.raises(Stop):
        train_warmup(config, stop_at(stop))
    # What a kill can leave: a half-written checkpoint, and a half-written line.
    (tmp_path / "run" / ".unfinished-checkpoint-00000009").mkdir()
    with (tmp_path / "run" / "updates.jsonl").open("a") as log:
        log.write('{"update": 6, "lo')
    result = train_warmup(config)
    assert result.resumed_update == (stop - 1) // 3 * 3
    assert_equal_weights(final_weights(uninterrupted), final_weights(tmp_path / "run"))
    assert without_seconds(tmp_path / "run") == without_seconds(uninterrupted)
    assert not list((tmp_path / "run").glob(".unfinished-*"))


KILLED = """
import os, signal, sys, torch
import trainers.checkpoint as checkpoint
from trainers.config_options import parse_config
from trainers.config import WarmupConfig
from trainers.warmup import train_warmup

torch.set_num_threads(1)
write = checkpoint.save_file

def killed_while_writing(tensors, path):
    write(tensors, path)
    if "00000006" in str(path):
        os.truncate(path, 100)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = killed_while_writing
train_warmup(parse_config(WarmupConfig, "test", sys.argv[1:]))
"""


def arguments(config: WarmupConfig) -> list[str]:
    given = []
    for name in (
        "dataset",
        "student",
        "output",
        "lr",
        "lr_schedule",
        "lr_warmup_updates",
        "weight_decay",
        "max_tokens_per_micro_batch",
        "checkpoint_every_updates",
    ):
        given += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    return given


def test_kill_9_while_a_checkpoint_is_written(
    place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    config = config_for(place, tmp_path / "run")
    assert parse_config(WarmupConfig, "test", arguments(config)) == config
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments(config)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    assert len(records(tmp_path / "run")) == 6
    assert (tmp_path / "run" / ".unfinished-checkpoint-00000006").exists()
    assert train_warmup(config).resumed_update == 3
    assert_equal_weights(final_weights(uninterrupted), final_weights(tmp_path / "run"))
    assert without_seconds(tmp_path / "run") == without_seconds(uninterrupted)


def test_two_processes_give_the_weights_of_one(
    place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run_together(["-m", "trainers", "warmup", *arguments(config_for(place, tmp_path / "two"))])
    expected = final_weights(uninterrupted)
    for name, tensor in final_weights(tmp_path / "two").items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-5, rtol=1e-3)
    ours, single = records(tmp_path / "two"), records(uninterrupted)
    assert len(ours) == N_UPDATES
    for a, b in zip(ours, single, strict=True):
        assert a["rows"] == b["rows"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("save_precision,stored", [("student", "bfloat16"), ("fp32", "float32")])
def test_final_weights_have_the_students_own_type(
    place: Path, tmp_path: Path, save_precision: str, stored: str
) -> None:
    from transformers import AutoModelForCausalLM

    student = tmp_path / "bf16"
    save_tiny_model(student)
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.bfloat16)
    model.save_pretrained(student)
    config = config_for(
        place, tmp_path / "run", student=str(student), save_precision=save_precision
    )
    train_warmup(config)
    final = tmp_path / "run" / "final"
    assert json.loads((final / "config.json").read_text())["dtype"] == stored
    assert {t.dtype for t in final_weights(tmp_path / "run").values()} == {getattr(torch, stored)}
    checkpoint = load_file(tmp_path / "run" / "checkpoint-00000008" / "model.safetensors")
    assert {t.dtype for t in checkpoint.values()} == {torch.float32}


def test_config_and_arguments_do_not_import_torch() -> None:
    code = "import sys, trainers.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=60)


def test_finished_run_is_left_alone(place: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "final" / "model.safetensors").stat().st_mtime_ns
    result = train_warmup(config_for(place, uninterrupted), stop_at(1))
    assert result.resumed_update == N_UPDATES
    assert (uninterrupted / "final" / "model.safetensors").stat().st_mtime_ns == before


def test_lost_final_model_is_written_again(
    place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    config = config_for(place, tmp_path / "run")
    train_warmup(config)
    (tmp_path / "run" / "final" / "model.safetensors").unlink()
    (tmp_path / "run" / "final").rename(tmp_path / "gone")
    train_warmup(config, stop_at(1))
    assert_equal_weights(final_weights(uninterrupted), final_weights(tmp_path / "run"))


def test_only_the_newest_checkpoints_are_kept(place: Path, tmp_path: Path) -> None:
    config = config_for(place, tmp_path / "run", checkpoint_every_updates=1, keep_checkpoints=2)
    train_warmup(config)
    names = sorted(p.name for p in (tmp_path / "run").glob("checkpoint-*"))
    assert names == ["checkpoint-00000007", "checkpoint-00000008"]
    files = sorted(p.name for p in (tmp_path / "run" / names[0]).iterdir())
    assert files == ["model.safetensors", "optimizer.safetensors", "state.json"]


def test_checkpoint_of_another_config_or_dataset_is_refused(
    place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"(?s)another run.*lr was 0\.003, is 0\.1"):
        train_warmup(config_for(place, uninterrupted, lr=0.1))
    other = write_locked(tmp_path / "other", bigram_rows([1]))
    with pytest.raises(TrainingError, match="dataset fingerprint was 'fingerprint-of-data'"):
        train_warmup(config_for(place, uninterrupted, dataset=str(other)))
    # What does not change the weights may change.
    train_warmup(config_for(place, uninterrupted, keep_checkpoints=5, max_kl=9.0))


def test_runaway_kl_stops_before_the_step_and_can_be_continued(
    place: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulate = trainers.update.accumulate_gradients

    def spiked(rows: Any, *rest: Any) -> dict[str, float]:
        means = accumulate(rows, *rest)
        return {**means, "kl": 60.0} if rows.update == 5 else means

    config = config_for(place, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("trainers.loop.accumulate_gradients", spiked)
        with pytest.raises(TrainingError, match=r"(?s)update 5 has a KL of 60.*--max-kl"):
            train_warmup(config)
    assert [r["update"] for r in records(tmp_path / "run")] == [1, 2, 3, 4]
    result = train_warmup(config_for(place, tmp_path / "run", max_kl=100.0))
    assert result.resumed_update == 4
    assert_equal_weights(final_weights(uninterrupted), final_weights(tmp_path / "run"))


def test_a_loss_that_is_not_finite_stops(place: Path, tmp_path: Path) -> None:
    rows = bigram_rows([1, 1])
    rows[0]["topk_logprobs"][0] = float("nan")
    folder = write_locked(tmp_path / "nan", rows)
    with pytest.raises(TrainingError, match="update 1 has loss nan"):
        train_warmup(config_for(place, tmp_path / "run", dataset=str(folder)))
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-00000000"]


@pytest.mark.parametrize(
    "column,value,message",
    [("topk_token_ids", 100, "topk_token_ids"), ("prompt_token_ids", -1, "from -1")],
)
def test_ids_outside_the_vocabulary_are_refused(
    place: Path, tmp_path: Path, column: str, value: int, message: str
) -> None:
    rows = bigram_rows([1, 1], vocab_size=99)
    rows[1][column][0] = value
    folder = write_locked(tmp_path / "ids", rows)
    with pytest.raises(TrainingError, match=rf"(?s){message}.*vocabulary has \d+"):
        train_warmup(config_for(place, tmp_path / "run", dataset=str(folder)))


def test_sequence_longer_than_the_student_is_refused(place: Path, tmp_path: Path) -> None:
    folder = write_locked(tmp_path / "long", bigram_rows([1], longest=1))
    student = tmp_path / "student"
    save_tiny_model(student)
    settings = json.loads((student / "config.json").read_text())
    settings["max_position_embeddings"] = 1
    (student / "config.json").write_text(json.dumps(settings))
    with pytest.raises(TrainingError, match="has 1 positions"):
        train_warmup(config_for(place, tmp_path / "run", dataset=str(folder), student=str(student)))


@pytest.mark.parametrize("updates", [[2, 2], [1, 3]])
def test_gap_in_the_updates_is_damage(place: Path, tmp_path: Path, updates: list[int]) -> None:
    folder = write_locked(tmp_path / "gap", bigram_rows(updates))
    with pytest.raises(DatasetError, match=r"update \d has no response token"):
        train_warmup(config_for(place, tmp_path / "run", dataset=str(folder)))


def test_dataset_without_topk_is_refused(place: Path, tmp_path: Path) -> None:
    columns = ("update", "prompt_token_ids", "response_token_ids")
    folder = write_locked(tmp_path / "plain", bigram_rows([1]), columns=columns)
    with pytest.raises(InputError, match="has no k, topk_token_ids, topk_logprobs"):
        train_warmup(config_for(place, tmp_path / "run", dataset=str(folder)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_bf16_without_a_gpu_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)bf16.*--precision"):
        train_warmup(config_for(place, tmp_path / "run", precision="bf16"))


def test_trackers(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="tracker 'paper' is unknown"):
        train_warmup(config_for(place, tmp_path / "run", trackers=("paper",)))
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(TrainingError, match="pip install wandb"):
            train_warmup(config_for(place, tmp_path / "run", trackers=("wandb",)))
    assert not (tmp_path / "run").exists()
    train_warmup(config_for(place, tmp_path / "run", trackers=("tensorboard",)))
    assert list((tmp_path / "run" / "trackers").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.0},
        {"lr": float("nan")},
        {"tail": "none"},
        {"lr_schedule": "cos"},
        {"max_tokens_per_micro_batch": 0},
        {"betas": (0.9, 1.0)},
        {"student": ""},
        {"grad_clip_norm": -1.0},
        {"lr_warmup_updates": -1},
    ],
)
def test_config_refuses_what_makes_no_sense(place: Path, changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(InputError, match=name):
        config_for(place, place, **changes)


def test_every_config_field_is_explained() -> None:
    from dataclasses import fields

    for config in (WarmupConfig, OPDConfig, BridgeContinuationConfig, GRPOConfig, SFTConfig):
        names = {f.name for f in fields(config)}
        assert set(field_help(config)) == names
        # Settings, that is: what is trained, on what and where to is told by every command.
        shared = {f.name for f in fields(TrainerConfig)}
        assert len(shared - {"dataset", "student", "output"}) <= 25 and len(names - shared) <= 10


def test_main_prints_errors_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--dataset",
        str(tmp_path),
        "--student",
        "x",
        "--output",
        "y",
        "--betas",
        "0.9",
        "0.99",
    ]
    assert main(["warmup", *given]) == 1
    assert "fix: s2d dataset build" in capsys.readouterr().err
    assert main(["warmpu", *given]) == 1
    assert "no trainer is named 'warmpu'; did you mean 'warmup'?" in capsys.readouterr().err
    assert (main([]), main(["--help"])) == (2, 0)
    assert capsys.readouterr().out.count("usage: python -m trainers {warmup,opd,") == 2


@pytest.mark.parametrize("schedule,last", [("constant", 1.0), ("linear", 0.25), ("cosine", 0.1464)])
def test_learning_rate(schedule: Any, last: float) -> None:
    factors = [lr_factor(u, 5, schedule, 2) for u in range(1, 6)]
    assert factors[:2] == [0.5, 1.0]
    assert factors[-1] == pytest.approx(last, abs=1e-4)
    assert factors[1:] == sorted(factors[1:], reverse=True)
    assert lr_factor(1, 4, schedule, 0) == 1.0
