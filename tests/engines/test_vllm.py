"""The vLLM engine, for real, on a CPU: a tiny float32 model against the transformers engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.engines.base import Sample, SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.registry import open_engine
from s2d_store.errors import EngineError, InputError
from tests.support.engine_requests import requests, scores

pytestmark = [
    pytest.mark.vllm,
    # vLLM and what it imports use deprecated calls of their own.
    pytest.mark.filterwarnings("ignore"),
]
K = 40  # Above vLLM's own cap of 20.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny_models import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("vllm") / "tiny", seed=3, layers=2, head_dim=64)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    opened = open_engine("vllm", str(folder), top_logprobs=K, max_model_len=256, dtype="float32")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return open_engine("transformers", str(folder), device="cpu", dtype="float32")


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_samples_carry_the_models_own_raw_logprobs(
    engine: Any, reference: Any, temperature: float
) -> None:
    asked = requests(engine)
    samples = list(engine.sample(asked, SamplingParams(temperature, max_tokens=24), K))
    assert {s.rollout_id for s in samples} == {r.rollout_id for r in asked}
    truth = dict(reference.score(scores(asked, samples), K))
    for sample in samples:
        assert sample.topk is not None
        assert sample.topk.token_ids.shape == (len(sample.response_token_ids), K)
        expected = truth[sample.rollout_id]
        np.testing.assert_allclose(sample.response_logprobs, expected.sampled_logprobs, atol=2e-4)
        np.testing.assert_allclose(sample.topk.logprobs, expected.logprobs, atol=2e-4)
        agree = sample.topk.token_ids == expected.token_ids
        assert agree[:, 0].all()
        assert agree.mean() > 0.98, "ties alone may change places"


def test_scores_are_the_references(engine: Any, reference: Any) -> None:
    asked = requests(engine)
    samples = list(engine.sample(asked, SamplingParams(max_tokens=16), 0))
    truth = dict(reference.score(scores(asked, samples), 20))
    found = dict(engine.score(iter(scores(asked, samples)), 20))
    assert found.keys() == truth.keys()
    for rollout_id, entry in found.items():
        expected = truth[rollout_id]
        np.testing.assert_allclose(entry.logprobs, expected.logprobs, atol=2e-4)
        np.testing.assert_allclose(entry.sampled_logprobs, expected.sampled_logprobs, atol=2e-4)


def test_own_scores_are_what_was_kept_while_sampling(engine: Any) -> None:
    asked = requests(engine)
    samples = list(engine.sample(asked, SamplingParams(max_tokens=16), K))
    found = dict(engine.score(scores(asked, samples), K))
    for sample in samples:
        assert sample.topk is not None
        entry = found[sample.rollout_id]
        np.testing.assert_allclose(entry.logprobs, sample.topk.logprobs, atol=2e-4)
        np.testing.assert_allclose(entry.sampled_logprobs, sample.response_logprobs, atol=2e-4)


@pytest.mark.parametrize("n_response", [0, 1, 255])
def test_scores_to_the_last_token_of_the_context(
    engine: Any, reference: Any, n_response: int
) -> None:
    tokens = np.resize(np.arange(5, 60, dtype=np.int32), 256)
    request = ScoreRequest("r", tokens[n_response:].tolist(), tokens[:n_response])
    ((_, entry),) = engine.score([request], K)
    assert entry.token_ids.shape == entry.logprobs.shape == (n_response, K)
    if n_response:
        ((_, expected),) = reference.score([request], K)
        np.testing.assert_allclose(entry.logprobs, expected.logprobs, atol=2e-4)
        np.testing.assert_allclose(entry.sampled_logprobs, expected.sampled_logprobs, atol=2e-4)


def test_without_topk_the_sampled_logprob_is_kept(engine: Any) -> None:
    (sample,) = engine.sample(requests(engine, 1), SamplingParams(max_tokens=5), 0)
    assert sample.topk is None
    assert sample.response_logprobs.shape == sample.response_token_ids.shape
    request = ScoreRequest("r0", requests(engine, 1)[0].prompt_token_ids, sample.response_token_ids)
    ((_, entry),) = engine.score([request], 0)
    assert entry.token_ids.shape == (len(sample.response_token_ids), 0)
    np.testing.assert_allclose(entry.sampled_logprobs, sample.response_logprobs, atol=2e-4)


def test_finish_reasons(engine: Any) -> None:
    eos = engine.tokenizer.eos_token_id
    samples = list(engine.sample(requests(engine, 32), SamplingParams(max_tokens=60), 0))
    reasons = {sample.finish_reason for sample in samples}
    assert reasons == {"stop", "length"}, "both happen among 32 rollouts of this model"
    for sample in samples:
        tokens = sample.response_token_ids
        assert (tokens[:-1] != eos).all()
        assert (tokens[-1] == eos) == (sample.finish_reason == "stop")
        assert sample.finish_reason == "stop" or len(tokens) == 60


def test_seeds_decide_the_tokens(engine: Any) -> None:
    params = SamplingParams(max_tokens=12)
    first, again = (
        {s.rollout_id: s.response_token_ids.tolist() for s in engine.sample(asked, params, 0)}
        for asked in (requests(engine), requests(engine))
    )
    assert first == again
    other = [SampleRequest(r.rollout_id, r.prompt_token_ids, r.seed + 1) for r in requests(engine)]
    changed = {s.rollout_id: s.response_token_ids.tolist() for s in engine.sample(other, params, 0)}
    assert changed != first


def test_samples_come_as_they_finish_and_the_rest_can_be_left(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s2d_store.engines import vllm_engine

    monkeypatch.setattr(vllm_engine, "WINDOW", 4)
    stream = engine.sample(requests(engine, 64), SamplingParams(max_tokens=20), 0)
    next(stream)
    assert engine._engine.get_num_unfinished_requests() <= 4, "the rest is not handed over yet"
    stream.close()
    assert engine._engine.get_num_unfinished_requests() == 0
    assert len(list(engine.sample(requests(engine, 3), SamplingParams(max_tokens=4), 0))) == 3


@pytest.mark.usefixtures("ctrl_c_raises")
def test_ctrl_c_is_never_lost(engine: Any) -> None:
    for attempt in range(40):
        stream = engine.sample(requests(engine, 400), SamplingParams(max_tokens=200), 8)
        next(stream)
        timer = threading.Timer(attempt * 0.004, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            list(stream)
        stream.close()
        timer.join()
        assert engine._engine.get_num_unfinished_requests() == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_refusals(engine: Any) -> None:
    asked = requests(engine, 1)
    with pytest.raises(EngineError, match=f"(?s)top k of {K + 1} .*opened for at most {K}"):
        engine.sample(asked, SamplingParams(), K + 1)
    with pytest.raises(EngineError, match="vocabulary"):
        engine.sample(asked, SamplingParams(), 10_000)
    with pytest.raises(InputError, match=r"r0 needs .* above the model's limit of 256"):
        engine.sample(asked, SamplingParams(max_tokens=255), 0)
    with pytest.raises(InputError, match="temperature is -1"):
        engine.sample(asked, SamplingParams(temperature=-1), 0)
    response = np.array([5, 6], np.int32)
    support = ScoreRequest("r", [4], response, np.zeros((2, 3), np.int32))
    with pytest.raises(EngineError, match=r"(?s)at given ids.*--engine transformers"):
        list(engine.score([support], 0))
    long = ScoreRequest("r", [4], np.full(256, 5, np.int32))
    with pytest.raises(InputError, match="above the model's limit"):
        list(engine.score([long], 0))
    ids = ScoreRequest("r", [4], np.array([5, 9_999], np.int32))
    with pytest.raises(EngineError, match="token id 9999"):
        list(engine.score([ids], 0))
    with pytest.raises(InputError, match="r0 is asked for twice"):
        list(engine.sample([*asked, *asked], SamplingParams(max_tokens=2), 0))
    assert len(list(engine.sample(asked, SamplingParams(max_tokens=2), 0))) == 1, "usable after"


def test_only_whole_rollouts_are_stored() -> None:
    from s2d_store.engines.vllm_engine import finish_reason

    assert [finish_reason("r", said) for said in ("stop", "length")] == ["stop", "length"]
    for said in ("abort", "error", "repetition", None):
        with pytest.raises(EngineError, match="ended rollout r with"):
            finish_reason("r", said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_num_seq": 4}, "no engine argument 'max_num_seq'; did you mean 'max_num_seqs'"),
        ({"logprobs_mode": "processed_logprobs"}, "logprobs_mode cannot be given"),
        ({"trust_remote_code": True}, "trust_remote_code cannot be given"),
        ({"data_parallel_size": 4}, "(?s)data_parallel_size=4 cannot be given.*--workers 4; of a"),
    ],
)
def test_engine_arguments(folder: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_engine("vllm", str(folder), engine_args=arguments)


def test_a_mixture_of_experts_is_spread_as_asked(folder: Path) -> None:
    from vllm import EngineArgs

    from s2d_store.engines.vllm_engine import settings

    asked = {"tensor_parallel_size": 2, "enable_expert_parallel": True, "data_parallel_size": 1}
    args = EngineArgs(**settings(asked, {"model": str(folder), "seed": 1}))
    assert {name: getattr(args, name) for name in asked} == asked
    assert (args.model, args.seed, args.logprobs_mode) == (str(folder), 1, "raw_logprobs")


def test_a_running_engine_takes_over_another_policys_weights(engine: Any, tmp_path: Path) -> None:
    from tests.support.tiny_models import save_tiny_model

    # Here vLLM would leave a tied head as it was.
    assert not engine.reload(str(save_tiny_model(tmp_path / "tied", layers=2, head_dim=64)))
    first, second = (
        save_tiny_model(tmp_path / str(seed), seed=seed, layers=2, head_dim=64, tied=False)
        for seed in (4, 5)
    )
    running = open_engine("vllm", str(first), top_logprobs=K, max_model_len=256, dtype="float32")
    try:
        for folder in (second, first):
            assert running.reload(str(folder))
            asked, samples = requests(running), _drawn(running, SamplingParams(max_tokens=12), K)
            truth = open_engine("transformers", str(folder), device="cpu", dtype="float32")
            expected = dict(truth.score(scores(asked, samples), K))
            for sample in samples:
                assert sample.topk is not None
                np.testing.assert_allclose(
                    sample.topk.logprobs, expected[sample.rollout_id].logprobs, atol=2e-4
                )
    finally:
        running.close()


def test_a_fresh_engine_repeats_the_tokens_and_its_death_is_an_error(
    engine: Any, folder: Path
) -> None:
    params = SamplingParams(max_tokens=12)
    first = {s.rollout_id: s.response_token_ids.tolist() for s in _drawn(engine, params, 0)}
    fresh = open_engine(
        "vllm",
        str(folder),
        top_logprobs=64,
        max_model_len=256,
        dtype="float32",
        engine_args={"enable_prefix_caching": None},
    )
    try:
        samples = _drawn(fresh, params, 64)
        assert {s.rollout_id: s.response_token_ids.tolist() for s in samples} == first
        assert all(s.topk is not None and s.topk.token_ids.shape[1] == 64 for s in samples)
        with pytest.raises(EngineError, match="cannot score with prefix caching on"):
            fresh.score([], 1)  # None is vLLM's own default, which is on.

        stream = fresh.sample(requests(fresh, 600), SamplingParams(max_tokens=100), 0)
        next(stream)
        (process,) = vars(fresh)["_engine"].engine_core.resources.engine_manager.processes
        process.kill()
        with pytest.raises(EngineError, match="engine process has ended"):
            list(stream)
    finally:
        fresh.close()


def _drawn(engine: Any, params: SamplingParams, k: int) -> list[Sample]:
    return list(engine.sample(requests(engine), params, k))


def test_what_vllm_refuses_is_said_in_one_line(folder: Path) -> None:
    with pytest.raises(EngineError, match="vLLM cannot load") as refused:
        open_engine("vllm", str(folder), max_model_len=10**6)
    assert "max_model_len (1000000) is greater" in refused.value.why
    assert "validation error" not in refused.value.why and "\n" not in refused.value.why


def test_a_folder_without_weights(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(EngineError, match="vLLM cannot load"):
        open_engine("vllm", str(tmp_path))


def test_code_of_a_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(folder, tmp_path / "odd")
    config = json.loads((odd / "config.json").read_text())
    code = {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddModel"}
    (odd / "config.json").write_text(json.dumps(config | {"model_type": "odd", "auto_map": code}))
    (odd / "odd.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(EngineError, match="s2d never runs code that comes with a model"):
        open_engine("vllm", str(odd))
    assert not (tmp_path / "ran").exists()
