"""vLLM's own OpenAI server on a CPU: equal to the engine in this process, also when killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from s2d_store.engines.base import SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.registry import open_engine
from s2d_store.store import Store
from tests.conftest import Cli
from tests.support import made_stores
from tests.support.engine_requests import requests, scores
from tests.support.processes import environment

pytestmark = [
    pytest.mark.vllm,
    # A server takes a minute to start, several on a busy machine.
    pytest.mark.timeout(900),
    # vLLM and what it imports use deprecated calls of their own.
    pytest.mark.filterwarnings("ignore"),
]
K = 8
START_S = 240


class VllmServer:
    """`python -m vllm.entrypoints.openai.api_server`, started and killed as a test likes."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = ["--model", self._folder, "--host", "127.0.0.1", "--port", self.port]
        arguments += ["--dtype", "float32", "--enforce-eager", "--max-logprobs", 20]
        arguments += ["--max-model-len", 128, "--gpu-memory-utilization", 0.1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *map(str, arguments)],
            env=environment(VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            assert self._process.poll() is None, "the server ended"
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        self.kill()
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """Kill it with every process that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny_models import save_tiny_model

    return save_tiny_model(
        tmp_path_factory.mktemp("served") / "tiny", seed=3, layers=2, head_dim=64
    )


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[VllmServer]:
    made = VllmServer(folder)
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture(scope="module")
def engine(server: VllmServer, folder: Path) -> Iterator[Any]:
    opened = open_engine("server", str(folder), url=server.url, top_logprobs=K)
    yield opened
    opened.close()


def test_the_probe_of_a_real_server(engine: Any, server: VllmServer) -> None:
    (facts,) = engine.probes
    assert (facts.endpoint, facts.server, facts.logprobs_kind) == (server.url, "vllm", "raw")
    assert facts.max_logprobs == 20
    assert facts.tokenizer_fingerprint is not None
    assert 0 <= facts.spread_nats < 1e-3, "in float32"
    assert engine.max_model_len == 128
    # prompt_logprob_token_ids needs the V2 model runner, which a CPU does not have.
    assert facts.scores_given_ids is False


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_server_is_the_engine_in_this_process(
    engine: Any, folder: Path, temperature: float
) -> None:
    asked = requests(engine)
    params = SamplingParams(temperature, max_tokens=24)
    here = open_engine("vllm", str(folder), top_logprobs=K, max_model_len=128, dtype="float32")
    try:
        truth = {s.rollout_id: s for s in here.sample(asked, params, K)}
        scored_here = dict(here.score(scores(asked, list(truth.values())), K))
    finally:
        here.close()
    samples = {s.rollout_id: s for s in engine.sample(asked, params, K)}
    scored = dict(engine.score(scores(asked, list(truth.values())), K))
    assert samples.keys() == truth.keys() == scored.keys() and not engine.rejected
    for rollout_id, expected in truth.items():
        sample = samples[rollout_id]
        assert sample.response_token_ids.tolist() == expected.response_token_ids.tolist()
        np.testing.assert_allclose(sample.response_logprobs, expected.response_logprobs, atol=2e-4)
        np.testing.assert_allclose(sample.topk.logprobs, expected.topk.logprobs, atol=2e-4)
        assert (sample.topk.token_ids == expected.topk.token_ids).mean() > 0.98
        assert sample.finish_reason == expected.finish_reason
        entry, other = scored[rollout_id], scored_here[rollout_id]
        np.testing.assert_allclose(entry.logprobs, other.logprobs, atol=2e-4)
        np.testing.assert_allclose(entry.sampled_logprobs, other.sampled_logprobs, atol=2e-4)


@pytest.mark.parametrize("n_response", [1, 127])
def test_scores_to_the_last_token_of_the_context(
    engine: Any, folder: Path, n_response: int
) -> None:
    tokens = np.resize(np.arange(5, 60, dtype=np.int32), 128)
    request = ScoreRequest("r", tokens[:-n_response].tolist(), tokens[-n_response:])
    ((_, entry),) = engine.score([request], K)
    reference = open_engine("transformers", str(folder), device="cpu", dtype="float32")
    ((_, expected),) = reference.score([request], K)
    np.testing.assert_allclose(entry.logprobs, expected.logprobs, atol=2e-4)
    np.testing.assert_allclose(entry.sampled_logprobs, expected.sampled_logprobs, atol=2e-4)


def test_what_is_captured_is_what_the_engine_is_given(
    engine: Any, server: VllmServer, folder: Path, tmp_path: Path
) -> None:
    store = Store.init(tmp_path / "store")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{(port := found.getsockname()[1])}"
    options = ("--upstream", server.url, "--port", port, "--run", "r", "--store", store.root)
    command = [sys.executable, "-m", "cli.main", "capture", "--ask-ids", *map(str, options)]
    proxy = subprocess.Popen(command, env=environment(), start_new_session=True)
    body = {"model": str(folder), "temperature": 0, "max_tokens": 12}
    try:
        while True:
            assert proxy.poll() is None, "the proxy ended"
            try:
                assert httpx.get(f"{url}/health").status_code == 200
                break
            except httpx.ConnectError:
                time.sleep(0.2)
        answers = {}
        for stream, prompt in ((False, "1+2="), (True, "what is 7 times 8?")):
            asked = body | {"prompt": prompt, "stream": stream}
            got = httpx.post(f"{url}/v1/completions", json=asked, timeout=START_S)
            assert got.status_code == 200
            answers[prompt] = got.text
        proxy.send_signal(signal.SIGINT)
        assert proxy.wait(START_S) == 0
    finally:
        if proxy.poll() is None:
            proxy.kill()
            proxy.wait()
    rows = store.sql("SELECT * FROM raw.rollouts").to_arrow_table().to_pylist()
    assert len(rows) == 2
    asked_again = [SampleRequest(str(i), r["prompt_token_ids"], 0) for i, r in enumerate(rows)]
    params = SamplingParams(0.0, max_tokens=12)
    for sample in engine.sample(asked_again, params, 0):
        row = rows[int(sample.rollout_id)]
        assert (row["origin"], row["tokens_from"]) == ("captured", "sampled")
        assert row["response_token_ids"] == sample.response_token_ids.tolist()
        np.testing.assert_allclose(row["response_logprobs"], sample.response_logprobs, atol=2e-4)
        assert row["finish_reason"] == sample.finish_reason
    # The client sees no field that it did not ask for.
    assert len(answers) == 2
    assert not any('"token_ids":[' in text or '"logprobs":{' in text for text in answers.values())


def test_killed_and_restarted_in_the_middle(
    server: VllmServer, folder: Path, cli: Cli, tmp_path: Path, questions: Path
) -> None:
    store = made_stores.make(tmp_path / "store", made_stores.read(questions), folder)

    def kill_and_restart() -> None:
        counted = Store.open(store.root)
        while counted.sql("SELECT count(*) FROM rollouts").fetchall()[0][0] < 8:
            time.sleep(0.05)
        server.kill()
        server.start()

    meanwhile = threading.Thread(target=kill_and_restart)
    meanwhile.start()
    try:
        done = cli(
            *("generate", "--policy", folder, "--role", "teacher", "-n", 40),
            *("--engine", "server", "--url", server.url, "--max-tokens", 100),
            *("--engine-arg", "in_flight=4", "--engine-arg", f"wait_s={START_S}"),
            *("--batch-size", 8, "--chunk", 8, "--top-logprobs", 4, "--store", store.root),
        )
    finally:
        meanwhile.join(START_S)
    assert done.code == 0, done.err
    assert "320 rollouts stored" in done.out and "left out" not in done.out
    counts = "SELECT count(*), count(DISTINCT (prompt_id, sample_index)) FROM rollouts"
    assert store.sql(counts).fetchall() == [(320, 320)]
    assert store.sql("SELECT count(*) FROM topk").fetchall() == [(320,)]
    assert cli("audit", "topk_consistency", "--store", store.root).code == 0
