"""A model folder from somebody else: its code never runs, its pickles are never opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from s2d_store.engines.registry import open_engine
from s2d_store.errors import EngineError, InputError, TrainingError
from s2d_store.policies.identity import inspect_policy
from s2d_store.policies.tokenizer import load_tokenizer
from s2d_store.store import Store
from tests.conftest import Cli
from trainers.config import SFTConfig
from trainers.student import Student

_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
Path({marker!r}).touch()
class OddConfig(LlamaConfig):
    model_type = "odd"
class OddModel(LlamaForCausalLM):
    config_class = OddConfig
class OddTokenizer(PreTrainedTokenizerFast):
    pass
"""
NEVER = r"s2d never runs code that comes with a model(.|\n)*architecture transformers itself has"


@pytest.fixture
def edited(student_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the student with code of its own, and keys of its JSON files replaced."""

    def edit(name: str, **keys: object) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(student_folder, folder)
        (folder / "odd.py").write_text(_CODE.format(marker=str(tmp_path / "ran")))
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))
        return folder

    return edit


@pytest.fixture
def nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether the folder's code stayed unused; a question on the terminal would be answered y."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return lambda: not list(tmp_path.rglob("ran"))


def _student(folder: Path, output: Path) -> Student:
    config = SFTConfig(dataset="none", student=str(folder), output=str(output))
    return Student.load(config, torch.device("cpu"), bf16=False)


AUTO_MAP = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddModel"}


def test_code_of_a_model_is_never_run(
    edited: Callable[..., Path], nothing_ran: Callable[[], bool], tmp_path: Path
) -> None:
    folder = edited("config.json", model_type="odd", auto_map=AUTO_MAP)
    with pytest.raises(EngineError, match=NEVER):
        open_engine("transformers", str(folder), device="cpu")
    with pytest.raises(TrainingError, match=NEVER):
        _student(folder, tmp_path / "out")
    assert nothing_ran()


def test_code_beside_a_known_architecture_is_left_unused(
    edited: Callable[..., Path], nothing_ran: Callable[[], bool], tmp_path: Path
) -> None:
    folder = edited("config.json", auto_map=AUTO_MAP)
    open_engine("transformers", str(folder), device="cpu").close()
    assert type(_student(folder, tmp_path / "out").model).__name__ == "Qwen3ForCausalLM"
    assert nothing_ran()


def test_code_of_a_tokenizer_is_never_run(
    edited: Callable[..., Path],
    nothing_ran: Callable[[], bool],
    cli: Cli,
    store: Store,
) -> None:
    folder = edited(
        "tokenizer_config.json",
        tokenizer_class="OddTokenizer",
        auto_map={"AutoTokenizer": ["odd.OddTokenizer", "odd.OddTokenizer"]},
    )
    # transformers knows a tokenizer for a model type that it knows, and would take that one.
    (folder / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": AUTO_MAP}))
    with pytest.raises(InputError, match=NEVER):
        load_tokenizer(str(folder))
    done = cli("policies", "add", "odd", folder, "--store", store.root)
    assert done.code == 1 and "never runs code" in done.err and "Traceback" not in done.err
    assert nothing_ran()


def test_it_cannot_be_asked_for(student_folder: Path) -> None:
    with pytest.raises(InputError, match=r"trust_remote_code.* not valid for transformers"):
        open_engine("transformers", str(student_folder), engine_args={"trust_remote_code": True})


def test_pickled_weights_are_never_opened(student_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(student_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="only safetensors weights are read"):
        inspect_policy(str(folder))
    # Were they not refused, these two would fall back on the .bin.
    with pytest.raises(EngineError, match=r"no causal language model .*\n.*safetensors"):
        open_engine("transformers", str(folder), device="cpu")
    with pytest.raises(TrainingError, match=r"cannot load the student .*\n.*safetensors"):
        _student(folder, tmp_path / "out")
