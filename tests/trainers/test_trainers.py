"""OPD, its continuation, GRPO and SFT on locked datasets; what trainers share: test_warmup.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from s2d_store.errors import InputError, S2DError
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.bridge_continuation import train_bridge_continuation
from trainers.config import (
    BridgeContinuationConfig,
    GRPOConfig,
    OPDConfig,
    SFTConfig,
    TrainerConfig,
)
from trainers.grpo import train_grpo
from trainers.opd import train_opd
from trainers.sft import train_sft

N_UPDATES = 6
Train = Callable[..., Any]
# name: (dataset kind, trainer, config, settings)
TRAINERS: dict[str, tuple[str, Train, type[TrainerConfig], dict[str, Any]]] = {
    "opd": ("opd", train_opd, OPDConfig, {}),
    "opd sampled": ("opd", train_opd, OPDConfig, {"loss": "sampled"}),
    "opd forward": ("opd", train_opd, OPDConfig, {"loss": "forward_kl"}),
    "bridge_continuation": (
        "bridge_continuation",
        train_bridge_continuation,
        BridgeContinuationConfig,
        {},
    ),
    "grpo": ("grpo", train_grpo, GRPOConfig, {}),
    "dapo": ("grpo", train_grpo, GRPOConfig, {"normalisation": "dapo"}),
    "sft": ("sft", train_sft, SFTConfig, {}),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `student` and a dataset of each kind: the same rows, 6 updates of 6."""
    place = tmp_path_factory.mktemp("trainers")
    save_tiny_model(place / "student")
    rows = bigram_rows([1 + i // 6 for i in range(6 * N_UPDATES)])
    for kind in ("warmup", "opd", "bridge_continuation", "grpo", "sft"):
        write_locked(place / kind, rows, kind=kind)
    return place


def run(place: Path, output: Path, name: str, **changes: Any) -> list[dict[str, Any]]:
    """Train, and give the lines of updates.jsonl."""
    kind, train, config_class, settings = TRAINERS[name]
    values: dict[str, Any] = {
        "dataset": str(place / kind),
        "student": str(place / "student"),
        "output": str(output),
        "lr": 1e-2,
        "max_tokens_per_micro_batch": 48,
        "checkpoint_every_updates": 2,
    }
    train(config_class(**{**values, **settings, **changes}))
    return [json.loads(line) for line in (output / "updates.jsonl").read_text().splitlines()]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "final" / "model.safetensors")


def repeated(folder: Path, rows: list[dict[str, Any]], updates: int, kind: str) -> str:
    """A dataset that trains on the same rows in every update."""
    schedule = ((u, i, row) for u in range(updates) for i, row in enumerate(rows))
    again = [row | {"update": u + 1, "row": len(rows) * u + i} for u, i, row in schedule]
    return str(write_locked(folder, again, kind=kind))


@pytest.mark.parametrize("name", ["opd", "opd forward", "bridge_continuation", "sft"])
def test_the_loss_falls(place: Path, tmp_path: Path, name: str) -> None:
    data = repeated(tmp_path / "data", bigram_rows([1] * 6), 12, TRAINERS[name][0])
    seen = run(place, tmp_path / "run", name, dataset=data, lr=3e-3)
    assert [record["update"] for record in seen] == list(range(1, 13))
    assert seen[-1]["loss"] < 0.9 * seen[0]["loss"]
    assert ("kl" in seen[0]) == (name != "sft") and seen[0]["entropy"] > 0


@pytest.mark.parametrize("name", list(TRAINERS))
def test_micro_batches_change_nothing_but_rounding(place: Path, tmp_path: Path, name: str) -> None:
    small = run(place, tmp_path / "small", name, max_tokens_per_micro_batch=20)
    large = run(place, tmp_path / "large", name, max_tokens_per_micro_batch=4096)
    for a, b in zip(small, large, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
    # AdamW's first steps divide noise by noise, so single weights may differ by steps of lr.
    for key, value in weights(tmp_path / "small").items():
        assert (value - weights(tmp_path / "large")[key]).abs().mean() < 1e-4


@pytest.mark.parametrize("name", ["opd", "opd sampled", "grpo", "sft"])
def test_a_stopped_run_ends_with_the_same_weights(place: Path, tmp_path: Path, name: str) -> None:
    class Stop(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 5:
            raise Stop

    whole = run(place, tmp_path / "whole", name)
    kind, train, config_class, settings = TRAINERS[name]
    config = config_class(
        dataset=str(place / kind),
        student=str(place / "student"),
        output=str(tmp_path / "stopped"),
        lr=1e-2,
        max_tokens_per_micro_batch=48,
        checkpoint_every_updates=2,
        **settings,
    )
    with pytest.raises(Stop):
        train(config, stop)
    assert train(config).resumed_update == 4
    lines = [json.loads(x) for x in (tmp_path / "stopped/updates.jsonl").read_text().splitlines()]
    assert [x | {"seconds": 0} for x in lines] == [x | {"seconds": 0} for x in whole]
    for key, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "stopped")[key]), key


def test_grpo_raises_what_has_an_advantage(place: Path, tmp_path: Path) -> None:
    """Every update repeats the same rows: the good ones must become likelier than the bad."""
    rows = bigram_rows([1] * 6)
    for row in rows:  # as if the student had sampled them: the first ratio is 1 up to rounding
        row["response_logprobs"] = logprobs_of(place / "student", row)
    data = repeated(tmp_path / "grpo", rows, 3, "grpo")
    seen = run(place, tmp_path / "run", "grpo", dataset=data, lr=1e-3)
    assert seen[0]["kl"] == pytest.approx(0, abs=1e-6) and seen[0]["clip_fraction"] == 0
    assert seen[2]["kl"] > 0
    before, after = (
        [sum(logprobs_of(folder, row)) for row in rows]
        for folder in (place / "student", tmp_path / "run" / "final")
    )
    gains = [b - a for a, b in zip(before, after, strict=True)]
    assert all(gain > 0 for gain in gains[::2]) and sum(gains[1::2]) < 0


def logprobs_of(folder: Path, row: dict[str, Any]) -> list[float]:
    """A model's logprobs of a row's response, by transformers' own forward pass."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt, response = list(row["prompt_token_ids"]), list(row["response_token_ids"])
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    found = logits.log_softmax(dim=1).gather(1, torch.tensor(response)[:, None])[:, 0]
    return [float(value) for value in found]


def test_normalisation_follows_the_datasets_form(place: Path, tmp_path: Path) -> None:
    rows = bigram_rows([1 + i // 6 for i in range(6)])
    data = write_locked(tmp_path / "data", rows, kind="grpo", params={"form": "dapo"})
    losses = {
        name: run(place, tmp_path / name, "grpo", dataset=str(data), normalisation=name)[0]["loss"]
        for name in ("auto", "dapo", "grpo")
    }
    assert losses["auto"] == losses["dapo"] != losses["grpo"]
    data = write_locked(tmp_path / "dr", rows, kind="grpo", params={"form": "dr_grpo"})
    with pytest.raises(InputError, match=r"max_response_tokens is 0\n.*dr_grpo"):
        run(place, tmp_path / "x", "grpo", dataset=str(data))
    run(place, tmp_path / "x", "grpo", dataset=str(data), max_response_tokens=16)


MISTAKES: dict[str, tuple[str, str, str]] = {
    "opd on a warmup dataset": (
        "opd",
        "warmup",
        "is of kind warmup\n.*opd trains on datasets of kind opd or fresh_opd\n.*warmup",
    ),
    "grpo on an sft dataset": (
        "grpo",
        "sft",
        "is of kind sft\n.*on datasets of kind grpo or replay\n.*train sft",
    ),
    "sft on a bridge continuation": (
        "sft",
        "bridge_continuation",
        "is of kind bridge_continuation\n.*sft or warmup",
    ),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_dataset_of_the_wrong_kind(place: Path, tmp_path: Path, mistake: str) -> None:
    name, kind, message = MISTAKES[mistake]
    with pytest.raises(InputError, match=message):
        run(place, tmp_path / "run", name, dataset=str(place / kind))
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_the_columns(place: Path, tmp_path: Path) -> None:
    rows = bigram_rows([1] * 4)
    kept = [c for c in rows[0] if c not in ("advantage", "sampled_logprobs")]
    data = str(write_locked(tmp_path / "mine", rows, columns=kept, kind="mine"))
    with pytest.raises(InputError, match=r"\(mine\) has no advantage\n"):
        run(place, tmp_path / "run", "grpo", dataset=data)
    with pytest.raises(InputError, match="has no sampled_logprobs\n"):
        run(place, tmp_path / "run", "opd sampled", dataset=data)
    run(place, tmp_path / "run", "opd", dataset=data)


@pytest.mark.parametrize(
    ("config_class", "field", "value", "message"),
    [
        (OPDConfig, "loss", "mse", "loss is 'mse'\n.*reverse_kl, sampled, forward_kl"),
        (OPDConfig, "ratio_cap", 0.5, "ratio_cap is 0.5\n.*at least 1"),
        (GRPOConfig, "clip", (1.0, 0.28), r"clip is \(1.0, 0.28\)\n.*between 0 and 1"),
        (GRPOConfig, "clip", (0.2, 0.0), r"clip is \(0.2, 0.0\)\n.*above 0"),
        (GRPOConfig, "normalisation", "dr_grpo", "max_response_tokens is 0\n.*dr_grpo"),
    ],
)
def test_settings_out_of_range(config_class: Any, field: str, value: Any, message: str) -> None:
    with pytest.raises(S2DError, match=message):
        config_class(dataset="d", student="s", output="o", **{field: value})
