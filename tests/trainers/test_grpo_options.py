"""GRPO's choices, end to end: epochs, temperature, a reference policy, recomputed logprobs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from s2d_store.errors import InputError, TrainingError
from tests.support.dense_objectives import logprobs_of
from tests.support.locked_datasets import bigram_rows, write_locked
from tests.support.tiny_models import save_tiny_model
from trainers.config import GRPOConfig, OPDConfig
from trainers.grpo import train_grpo
from trainers.opd import train_opd
from trainers.recompute import FILE

N_ROWS = 6


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `student` and `reference`."""
    place = tmp_path_factory.mktemp("grpo")
    save_tiny_model(place / "student")
    save_tiny_model(place / "reference", seed=1)
    return place


def model_of(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def rows_of(place: Path, noise: float = 0.0, temperature: float = 1.0) -> list[dict[str, Any]]:
    """Rows as if the student had sampled them, on an engine that is off by `noise` nats a token."""
    rng = np.random.default_rng(0)
    student, reference = model_of(place / "student"), model_of(place / "reference")
    rows = bigram_rows([1] * N_ROWS)
    with torch.no_grad():
        for row in rows:
            length = len(row["response_token_ids"])
            exact = logprobs_of(student, row, temperature).numpy()
            row["response_logprobs"] = exact + noise * rng.standard_normal(length)
            row["ref_logprobs"] = logprobs_of(reference, row).numpy()
    return rows


def epochs(folder: Path, rows: list[dict[str, Any]], n: int, kind: str = "grpo") -> str:
    """A dataset of n updates, each of the same rows."""
    again = [row | {"update": epoch + 1} for epoch in range(n) for row in rows]
    return str(write_locked(folder, again, kind=kind))


def run(place: Path, output: Path, data: str, **changes: Any) -> list[dict[str, Any]]:
    """Train, and give the lines of updates.jsonl."""
    values: dict[str, Any] = {
        "dataset": data,
        "student": str(place / "student"),
        "output": str(output),
        "lr": 3e-3,
        "max_tokens_per_micro_batch": 48,
        "checkpoint_every_updates": 1,
    }
    train_grpo(GRPOConfig(**{**values, **changes}))
    return [json.loads(line) for line in (output / "updates.jsonl").read_text().splitlines()]


def by_hand(
    place: Path,
    rows: list[dict[str, Any]],
    n: int,
    *,
    column: str = "response_logprobs",
    temperature: float = 1.0,
    kl: tuple[float, str] = (0.0, "k3"),
    cap: float = 0.0,
) -> list[dict[str, float]]:
    """The same n updates with dense logits and torch's own AdamW; `grpo` normalisation."""
    model = model_of(place / "student")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    sampled = [torch.tensor(list(row[column]), dtype=torch.float32) for row in rows]
    with torch.no_grad():
        old = [logprobs_of(model, row, temperature) for row in rows] if cap else sampled
    seen = []
    for _ in range(n):
        losses, penalties, ratios = [], [], []
        for row, then, drawn in zip(rows, old, sampled, strict=True):
            now, gain = logprobs_of(model, row, temperature), row["advantage"]
            ratio = (now - then).exp()
            weight = (then - drawn).exp().clamp_max(cap) if cap else torch.ones_like(now)
            loss = -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.28) * gain) * weight
            d = torch.tensor(row["ref_logprobs"], dtype=torch.float32) - now
            penalty = d.exp() - 1 - d
            if kl[1] == "k3":  # whole, with the ratio: what its exact gradient is the gradient of
                penalty = ratio * weight * penalty
            losses.append((loss + kl[0] * penalty).mean())
            penalties.append(penalty.detach())
            ratios.append(ratio.detach())
        optimizer.zero_grad()
        total = torch.stack(losses).mean()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        flat = torch.cat(ratios)
        seen.append(
            {
                "loss": total.item(),
                "grad_norm": float(norm),
                "kl": (flat - 1 - flat.log()).mean().item(),
                "reference_kl": torch.cat(penalties).mean().item(),
            }
        )
    return seen


def assert_same(seen: list[dict[str, Any]], expected: list[dict[str, float]], *names: str) -> None:
    for ours, theirs in zip(seen, expected, strict=True):
        for name in names:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=1e-6), name


def test_epochs_over_one_batch_keep_the_samplers_logprobs_as_denominator(
    place: Path, tmp_path: Path
) -> None:
    rows = rows_of(place)
    seen = run(place, tmp_path / "run", epochs(tmp_path / "data", rows, 4))
    assert_same(seen, by_hand(place, rows, 4), "loss", "grad_norm", "kl")
    assert seen[0]["kl"] == pytest.approx(0, abs=1e-6) and seen[0]["clip_fraction"] == 0
    assert seen[3]["kl"] > seen[1]["kl"] > 0 and seen[3]["clip_fraction"] > 0


@pytest.mark.parametrize("estimator", ["k3", "k3_direct"])
def test_kl_to_a_reference_policy(place: Path, tmp_path: Path, estimator: str) -> None:
    rows = rows_of(place)
    data = epochs(tmp_path / "data", rows, 3)
    told = {"kl_coefficient": 0.3, "kl_estimator": estimator}
    seen = run(place, tmp_path / "run", data, **told)
    expected = by_hand(place, rows, 3, kl=(0.3, estimator))
    assert_same(seen, expected, "loss", "grad_norm", "kl", "reference_kl")
    without = run(place, tmp_path / "without", data)
    assert "reference_kl" not in without[0]
    assert without[0]["grad_norm"] != pytest.approx(seen[0]["grad_norm"], rel=1e-2)


def test_estimators_differ_in_the_value_and_share_the_gradient(place: Path, tmp_path: Path) -> None:
    data = epochs(tmp_path / "data", rows_of(place, noise=0.2), 1)
    seen = {
        name: run(place, tmp_path / name, data, kl_coefficient=0.5, kl_estimator=name)[0]
        for name in ("k1", "k2", "k3")
    }
    for name in ("k1", "k2"):
        assert seen[name]["grad_norm"] == pytest.approx(seen["k3"]["grad_norm"], rel=1e-4)
    assert len({round(record["reference_kl"], 3) for record in seen.values()}) == 3


def test_a_reference_without_logprobs_is_refused(place: Path, tmp_path: Path) -> None:
    rows = rows_of(place)
    for row in rows:
        del row["ref_logprobs"]
    data = epochs(tmp_path / "data", rows, 1)
    message = r"kl_coefficient is 0.0005\n.*data has no column ref_logprobs.*\n.*--kl-coefficient 0"
    with pytest.raises(InputError, match=message):
        run(place, tmp_path / "run", data, kl_coefficient=5e-4)
    assert not (tmp_path / "run").exists()
    run(place, tmp_path / "run", data)


@pytest.mark.parametrize("cap", [0.9, 2.0])
def test_recomputed_logprobs_part_lag_from_mismatch(
    place: Path, tmp_path: Path, cap: float
) -> None:
    rows = rows_of(place, noise=0.5)
    seen = run(place, tmp_path / "run", epochs(tmp_path / "data", rows, 3), importance_cap=cap)
    assert_same(seen, by_hand(place, rows, 3, cap=cap), "loss", "grad_norm", "kl")
    # The mismatch is no lag: nothing is clipped before the policy has moved.
    assert seen[0]["clip_fraction"] == 0 and seen[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert all(record["mismatch_kl"] == seen[0]["mismatch_kl"] > 0.05 for record in seen)
    plain = run(place, tmp_path / "plain", epochs(tmp_path / "same", rows, 3))
    assert plain[0]["clip_fraction"] > 0
    kept = pq.read_table(tmp_path / "run" / FILE)
    assert kept.num_rows == N_ROWS, "a rollout that is repeated is computed once"


def test_a_stopped_run_goes_on_with_what_it_recomputed(place: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record["update"] == 3:
            raise Stop

    rows = rows_of(place, noise=0.5)
    data = epochs(tmp_path / "data", rows, 4)
    told = {"importance_cap": 2.0, "kl_coefficient": 0.1}
    whole = run(place, tmp_path / "whole", data, **told)
    config = GRPOConfig(
        dataset=data,
        student=str(place / "student"),
        output=str(tmp_path / "stopped"),
        lr=3e-3,
        max_tokens_per_micro_batch=48,
        checkpoint_every_updates=1,
        **told,  # type: ignore[arg-type]
    )
    with pytest.raises(Stop):
        train_grpo(config, stop)
    kept = tmp_path / "stopped" / FILE
    content = kept.read_bytes()
    kept.unlink()
    with pytest.raises(TrainingError, match=r"old_logprobs.parquet is missing\n"):
        train_grpo(config)
    kept.write_bytes(content)
    assert train_grpo(config).resumed_update == 2
    again = [json.loads(x) for x in (tmp_path / "stopped/updates.jsonl").read_text().splitlines()]
    assert [x | {"seconds": 0} for x in again] == [x | {"seconds": 0} for x in whole]
    weights = [load_file(tmp_path / n / "final/model.safetensors") for n in ("whole", "stopped")]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def with_sampler(rows: list[dict[str, Any]], place: Path, temperature: float) -> None:
    """Add what each token was drawn with; `response_logprobs` stay at temperature 1."""
    student = model_of(place / "student")
    with torch.no_grad():
        for row in rows:
            row["sampler_logprobs"] = logprobs_of(student, row, temperature).numpy()


def test_temperature_divides_the_logits(place: Path, tmp_path: Path) -> None:
    rows = rows_of(place)
    with_sampler(rows, place, 0.7)
    data = epochs(tmp_path / "data", rows, 3)
    seen = run(place, tmp_path / "run", data, temperature=0.7)
    expected = by_hand(place, rows, 3, column="sampler_logprobs", temperature=0.7)
    assert_same(seen, expected, "loss", "grad_norm", "kl")
    assert seen[0]["kl"] == pytest.approx(0, abs=1e-6) and seen[0]["clip_fraction"] == 0
    # At temperature 1 the ratio is still to what was drawn: exact, and not 1.
    at_one = run(place, tmp_path / "one", data)
    assert_same(at_one, by_hand(place, rows, 3, column="sampler_logprobs"), "loss", "kl")
    assert at_one[0]["kl"] > 0.01


def test_a_temperature_without_logprobs_at_it_is_refused(place: Path, tmp_path: Path) -> None:
    rows = rows_of(place)
    data = epochs(tmp_path / "data", rows, 1)
    message = r"temperature is 0.7\n.*no column sampler_logprobs.*\n.*--temperature 1"
    with pytest.raises(InputError, match=message):
        run(place, tmp_path / "run", data, temperature=0.7)
    opd = epochs(tmp_path / "opd", rows, 1, "opd")
    told: dict[str, Any] = {
        "dataset": opd,
        "student": str(place / "student"),
        "output": str(tmp_path / "x"),
    }
    with pytest.raises(InputError, match=message):
        train_opd(OPDConfig(**told, loss="sampled", temperature=0.7))
    with pytest.raises(InputError, match=r"temperature is 0.7\n.*reverse_kl on a stored support"):
        OPDConfig(**told, temperature=0.7)
    with_sampler(rows, place, 0.7)
    told["dataset"] = epochs(tmp_path / "both", rows, 1)
    with pytest.raises(InputError, match=r"kl_coefficient is 0.1 and temperature 0.7"):
        run(place, tmp_path / "y", told["dataset"], temperature=0.7, kl_coefficient=0.1)


def test_sampled_opd_at_a_temperature(place: Path, tmp_path: Path) -> None:
    """The first loss is the mean of log student - log teacher, the student's at the temperature."""
    rows = rows_of(place)
    with_sampler(rows, place, 0.7)
    data = epochs(tmp_path / "data", rows, 1, "opd")
    output = tmp_path / "run"
    told: dict[str, Any] = {"student": str(place / "student"), "output": str(output)}
    train_opd(OPDConfig(dataset=data, **told, loss="sampled", temperature=0.7))
    (record,) = [json.loads(x) for x in (output / "updates.jsonl").read_text().splitlines()]
    gaps: list[Tensor] = [
        torch.tensor(row["sampler_logprobs"]) - torch.tensor(list(row["sampled_logprobs"]))
        for row in rows
    ]
    assert record["loss"] == pytest.approx(torch.cat(gaps).mean().item(), rel=1e-4)
    assert record["clip_fraction"] == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", 0.0, "temperature is 0.0\n.*above 0"),
        ("kl_coefficient", -1.0, "kl_coefficient is -1.0\n.*below 0"),
        ("kl_estimator", "k4", "kl_estimator is 'k4'\n.*k1, k2, k3, k3_direct"),
        ("importance_cap", math.inf, "importance_cap is inf"),
        ("partial_update", "skip", "partial_update is 'skip'\n.*keep, drop, scale"),
    ],
)
def test_settings_out_of_range(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GRPOConfig(dataset="d", student="s", output="o", **{field: value})
