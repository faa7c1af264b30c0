"""examples/trl and examples/verl train on a lock as s2d's own trainers do: loss by loss.

Needs TRL and verl: `make test-trainers`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from s2d_store.store import Store
from tests.support import made_stores, sampled_store
from trainers.config import SFTConfig, WarmupConfig
from trainers.sft import train_sft
from trainers.warmup import train_warmup

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]
LR = 1e-3
# The same update, computed in other orders of sums.
CLOSE = 2e-5


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Path:
    """A warmup dataset of 32 rows in 4 updates, with the teacher's top 5."""
    root = tmp_path_factory.mktemp("others") / "store"
    store: Store = sampled_store.make(root, made_stores.read(questions), teacher_folder)
    sampled_store.build_all(store)
    return root / "datasets" / "w"


def run(command: list[str], folder: Path, **environment: str) -> None:
    path = os.pathsep.join(map(str, (ROOT, folder)))
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(file: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in file.read_text().splitlines()]


def own(config: Any, train: Any, lock: Path, student: Path, output: Path) -> list[float]:
    """Losses of s2d's own trainer."""
    train(config(dataset=str(lock), student=str(student), output=str(output), lr=LR))
    return losses(output / "updates.jsonl")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("loss", "config", "train", "accumulate"),
    [("sft", SFTConfig, train_sft, 1), ("forward-kl", WarmupConfig, train_warmup, 2)],
)
def test_trl_trains_as_s2d_does(
    lock: Path,
    student_folder: Path,
    tmp_path: Path,
    loss: str,
    config: Any,
    train: Any,
    accumulate: int,
) -> None:
    pytest.importorskip("trl", reason="make test-trainers installs it")
    expected = own(config, train, lock, student_folder, tmp_path / "own")
    output = tmp_path / "trl"
    given = f"--dataset {lock} --student {student_folder} --output {output} --lr {LR} --cpu"
    command = ["examples/trl/train.py", loss, *given.split(), "--accumulate", str(accumulate)]
    run(command, ROOT / "examples" / "trl")
    assert losses(output / "losses.jsonl") == pytest.approx(expected, rel=CLOSE)
    assert len(expected) == 4
    ours, theirs = weights(tmp_path / "own" / "final"), weights(output / "final")
    for name, value in theirs.items():
        assert torch.allclose(value, ours[name], atol=1e-4), name


def test_verl_trains_as_s2d_does(lock: Path, student_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("verl", reason="make test-trainers installs it")
    expected = own(SFTConfig, train_sft, lock, student_folder, tmp_path / "own")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "data.train_files": lock,
        "model.path": student_folder,
        "model.use_remove_padding": False,
        "model.enable_gradient_checkpointing": False,
        "+model.override_config.attn_implementation": "sdpa",
        "engine.strategy": "fsdp2",
        "+engine.mixed_precision.param_dtype": "fp32",
        "engine.use_torch_compile": False,
        "optim.lr": LR,
        "optim.weight_decay": 0,
        "optim.betas": "[0.9,0.95]",
        "trainer.device": "cpu",
        "trainer.total_epochs": 1,
        "trainer.logger": "[file]",
        "trainer.default_local_dir": tmp_path / "verl",
        "hydra.run.dir": tmp_path / "hydra",
    }
    # verl imports what today's TRL no longer has, where TRL is installed beside it.
    alone = (
        "import sys, runpy; sys.modules['trl'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    run(
        ["-c", alone, "examples/verl/train.py", *(f"{k}={v}" for k, v in settings.items())],
        ROOT / "examples" / "verl",
        VERL_USE_EXTERNAL_MODULES="cpu_platform",
        VERL_PLATFORM="cpu",
        VERL_FILE_LOGGER_PATH=str(tmp_path / "verl.jsonl"),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK="0",
        LOCAL_RANK="0",
        WORLD_SIZE="1",
    )
    lines = (tmp_path / "verl.jsonl").read_text().splitlines()
    found = [json.loads(line)["data"]["train/loss"] for line in lines]
    assert found == pytest.approx(expected, rel=CLOSE)
    assert len(found) == 4
