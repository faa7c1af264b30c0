"""A real model under vLLM, and the commands with it: each test opens engines of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.engines.base import ScoreRequest
from s2d_store.engines.registry import open_engine
from s2d_store.store import Store

pytestmark = [
    pytest.mark.vllm,
    # vLLM and what it imports use deprecated calls of their own.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny_models import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("vllm") / "tiny", seed=3, layers=2, head_dim=64)


TEXTS = (
    "Natalia sold 48 clips in April, and half as many in May. How many did she sell in all?",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "The capital of France is Paris, and the capital of Italy is Rome.",
)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct in bfloat16."""
    out = tmp_path_factory.mktemp("smollm2")
    script = Path(__file__).parents[2] / "examples" / "gsm8k" / "make_models.py"
    subprocess.run([sys.executable, str(script), str(out)], check=True, capture_output=True)
    return out / "teacher"


def test_a_real_model_in_bfloat16_against_the_transformers_engine(smollm2: Path) -> None:
    # Both compute in bfloat16, whose neighbours between 16 and 32, where these logits lie, are an
    # eighth apart: a few roundings make 0.5 nats at the unlikely end. Measured with these texts:
    # mean 0.08, largest 0.47, weighted by mass 0.04, 97 % of ids in common. A position too far or a
    # temperature would show as nats.
    k, found = 20, {}
    for name in ("vllm", "transformers"):
        opened = open_engine(
            name, str(smollm2), top_logprobs=k, max_model_len=512, dtype="bfloat16"
        )
        try:
            ids = [opened.tokenizer(text)["input_ids"] for text in TEXTS]
            asked = [
                ScoreRequest(str(i), t[:4], np.array(t[4:], np.int32)) for i, t in enumerate(ids)
            ]
            found[name] = dict(opened.score(asked, k))
        finally:
            opened.close()
    gaps, weights = [], []
    for rollout_id, first in found["vllm"].items():
        second = found["transformers"][rollout_id]
        same_TKK = first.token_ids[:, :, None] == second.token_ids[:, None, :]
        t, i, j = np.nonzero(same_TKK)
        gaps.append(np.abs(first.logprobs[t, i] - second.logprobs[t, j]))
        weights.append(np.exp(first.logprobs[t, i]))
        assert same_TKK.any(2).mean() > 0.9
        assert same_TKK[:, 0, 0].mean() > 0.85
        assert np.abs(first.sampled_logprobs - second.sampled_logprobs).mean() < 0.15
    gap, weight = np.concatenate(gaps), np.concatenate(weights)
    assert gap.mean() < 0.15 and gap.max() < 1.0
    assert np.average(gap, weights=weight) < 0.08


def test_generate_score_and_build_through_the_command_line(
    cli: Callable[..., Any], folder: Path, questions: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    common = ("--engine", "vllm", "--dtype", "float32", "--max-model-len", 256, "--store", store)
    assert cli("init", "--store", store).code == 0
    assert cli("prompts", "add", questions, "--store", store).code == 0
    assert cli("policies", "add", "tiny", folder, "--store", store).code == 0
    made = cli(
        "generate", "--policy", "tiny", "--role", "teacher", "--n", 2, "--max-tokens", 8,
        "--top-logprobs", 8, "--verify", *common,
    )  # fmt: skip
    assert made.code == 0, made.err
    assert "16 rollouts stored" in made.out
    scored = cli("score", "--teacher", "tiny", "--top-logprobs", 24, *common)
    assert scored.code == 0, scored.err
    rows = Store.open(store).sql(
        "SELECT k, count(*), sum(len(token_ids)) = sum(len(sampled_logprobs)) * k, "
        "count(DISTINCT rollout_id) FROM topk GROUP BY k ORDER BY k"
    )
    assert rows.fetchall() == [(8, 16, True, 16), (24, 16, True, 16)]
    again = cli(
        "generate", "--policy", "tiny", "--role", "teacher", "--n", 2, "--max-tokens", 8,
        "--top-logprobs", 8, *common,
    )  # fmt: skip
    assert "0 rollouts stored" in again.out and "16 were stored before" in again.out


@pytest.mark.usefixtures("ctrl_c_raises")
def test_ctrl_c_stores_what_is_finished_and_leaves_no_process(
    cli: Callable[..., Any], folder: Path, questions: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    for command in (["init"], ["prompts", "add", questions], ["policies", "add", "tiny", folder]):
        assert cli(*command, "--store", store).code == 0
    arguments = (
        f"generate --policy tiny --role teacher --n 400 --max-tokens 100 --chunk 8 "
        f"--engine vllm --dtype float32 --max-model-len 256 --store {store}"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments.split()],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        opened, end = Store.open(store), time.monotonic() + 240
        while count(opened) < 8 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.3)
        # As a terminal does it: to the whole group, vLLM's own processes included.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130, errors
    assert "stopped by Ctrl-C" in errors
    assert 8 <= count(opened) < 3200
    assert not still_alive(process.pid), "ended, or about to"


def still_alive(group: int, seconds: float = 30.0) -> list[str]:
    """Processes of a group that do not end by themselves soon; zombies have ended."""
    end = time.monotonic() + seconds
    while True:
        listed = subprocess.run(
            ["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(maxsplit=2) for line in listed.splitlines()]
        alive = [" ".join(row) for row in rows if row[0] == str(group) and row[1][0] != "Z"]
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.3)


def count(store: Store) -> int:
    return int(store.sql("SELECT count(*) FROM rollouts").fetchall()[0][0])
