"""The server engine against a real tiny model behind each kind of server: equal to the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2d_store.engines.base import SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.registry import open_engine
from s2d_store.errors import EngineError, InputError
from tests.support.engine_requests import requests, scores
from tests.support.inference_server import serving

K = 6
Open = Callable[..., Any]


@pytest.mark.parametrize("kind", ["vllm", "sglang", "trl"])
def test_samples_are_the_models(model: Any, opened: Open, kind: str) -> None:
    asked = requests(model)
    with serving(kind, model) as server:
        engine = opened(server.url)
        samples = list(engine.sample(asked, SamplingParams(max_tokens=12), K))
    truth = {s.rollout_id: s for s in model.sample(asked, SamplingParams(max_tokens=12), K)}
    assert len(samples) == len(asked) and not engine.rejected
    for sample in samples:
        expected = truth[sample.rollout_id]
        assert sample.response_token_ids is not None and sample.topk is not None
        np.testing.assert_array_equal(sample.response_token_ids, expected.response_token_ids)
        np.testing.assert_allclose(sample.response_logprobs, expected.response_logprobs, atol=1e-5)
        np.testing.assert_allclose(sample.topk.logprobs, expected.topk.logprobs, atol=1e-5)
        assert (sample.topk.token_ids == expected.topk.token_ids).mean() > 0.98
        assert sample.endpoint == server.url
        assert sample.finish_reason == expected.finish_reason


@pytest.mark.parametrize("kind", ["vllm", "sglang", "trl"])
def test_scores_are_the_models(model: Any, opened: Open, kind: str) -> None:
    asked = requests(model)
    wanted = scores(asked, list(model.sample(asked, SamplingParams(max_tokens=12), 0)))
    with serving(kind, model) as server:
        found = dict(opened(server.url).score(iter(wanted), K))
    truth = dict(model.score(wanted, K))
    assert found.keys() == truth.keys()
    for rollout_id, entry in found.items():
        expected = truth[rollout_id]
        np.testing.assert_allclose(entry.logprobs, expected.logprobs, atol=1e-5)
        np.testing.assert_allclose(entry.sampled_logprobs, expected.sampled_logprobs, atol=1e-5)


@pytest.mark.parametrize("form", ["positions", "union"])
def test_sglang_scores_ids_that_it_is_given(model: Any, opened: Open, form: str) -> None:
    asked = requests(model)
    samples = list(model.sample(asked, SamplingParams(max_tokens=12), K))
    wanted = [
        ScoreRequest(r.rollout_id, r.prompt_token_ids, r.response_token_ids, s.topk.token_ids)
        for r, s in zip(scores(asked, samples), samples, strict=True)
    ]
    with serving("sglang", model, given_ids=form) as server:
        engine = opened(server.url)
        assert engine.probes[0].scores_given_ids
        found = dict(engine.score(iter(wanted), 0))
        field = "token_ids_logprob" + ("_positions" if form == "positions" else "")
        assert field in server.behaviour.asked[-1][1]
    for sample in samples:
        entry = found[sample.rollout_id]
        np.testing.assert_array_equal(entry.token_ids, sample.topk.token_ids)
        np.testing.assert_allclose(entry.logprobs, sample.topk.logprobs, atol=1e-5)


@pytest.mark.parametrize("kind", ["vllm", "sglang", "trl"])
def test_a_server_that_cannot_score_given_ids_says_so(model: Any, opened: Open, kind: str) -> None:
    support = np.zeros((1, 1), dtype=np.int32)
    request = ScoreRequest("r", [5, 6], np.array([7], dtype=np.int32), support)
    with serving(kind, model) as server:
        engine = opened(server.url)
        assert not engine.probes[0].scores_given_ids
        with pytest.raises(EngineError, match="cannot score rollout r at given ids"):
            list(engine.score([request], 1))


@pytest.mark.parametrize("kind", ["vllm", "sglang", "trl"])
def test_the_probe_finds_what_the_server_is(
    model: Any, opened: Open, kind: str, teacher_folder: Path
) -> None:
    for processed in (False, True):
        with serving(kind, model, processed=processed, max_logprobs=20) as server:
            engine = opened(server.url)
        (facts,) = engine.probes
        assert (facts.endpoint, facts.server) == (server.url, kind)
        assert facts.logprobs_kind == ("processed" if processed else "raw")
        assert facts.max_logprobs == (20 if kind == "vllm" else model.vocab_size)
        assert facts.spread_nats is not None and 0 <= facts.spread_nats < 1e-3
        # TRL's server reads no text and names no model.
        assert (facts.tokenizer_fingerprint is None) == (kind == "trl")
        assert facts.model_name == ("unknown" if kind == "trl" else "tiny")


def test_processed_logprobs_are_kept_apart_from_raw_ones(model: Any, opened: Open) -> None:
    asked = requests(model)
    with serving("sglang", model, processed=True) as server:
        engine = opened(server.url)
        warm = list(engine.sample(asked, SamplingParams(0.7, max_tokens=8), K))
        plain = list(engine.sample(asked, SamplingParams(max_tokens=8), K))
    for sample in warm:
        assert sample.response_logprobs is None and sample.topk is None
        assert sample.sampler_logprobs is not None
        assert len(sample.sampler_logprobs) == sample.n_tokens
    (said,) = engine.lacks(SamplingParams(0.7))
    assert "sampler_logprobs" in said and engine.lacks(SamplingParams()) == []
    for sample in plain:
        assert sample.sampler_logprobs is None and sample.topk is not None
        assert sample.response_logprobs is not None


def test_text_alone_is_no_tokens(model: Any, opened: Open) -> None:
    asked = requests(model, 2)
    with serving("openai", model) as server:
        engine = opened(server.url)
        (said,) = engine.lacks(SamplingParams())
        samples = list(engine.sample(asked, SamplingParams(max_tokens=8), K))
        with pytest.raises(EngineError, match="cannot score stored rollouts"):
            engine.score([], K)
        assert server.behaviour.asked[-1][1]["prompt"] in [r.prompt_token_ids for r in asked]
    assert "text alone" in said
    for sample in samples:
        assert sample.response_token_ids is None and sample.response_logprobs is None
        assert sample.text is not None and sample.n_tokens == 0


def test_without_a_tokenizer_messages_go_out(model: Any, opened: Open) -> None:
    request = SampleRequest("r", [], 1, [{"role": "user", "content": "hello"}])
    with serving("openai", model) as server:
        (sample,) = opened(server.url, location="").sample([request], SamplingParams(), 0)
    assert sample.text == "heard: hello" and sample.response_token_ids is None


def test_the_key_comes_from_the_environment(
    model: Any, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("vllm", model, key="of-my-own") as server:
        with pytest.raises(EngineError, match="no endpoint can be used") as raised:
            opened(server.url)
        assert "wants a key" in raised.value.why and "S2D_API_KEY" in raised.value.why
        monkeypatch.setenv("MINE", "of-my-own")
        assert len(opened(server.url, key_env="MINE").probes) == 1
    host = server.url.removeprefix("http://")
    with pytest.raises(InputError, match="holds a password") as refused:
        opened(f"http://user:hunter22@{host}")
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "args", "said"),
    [
        ("", {}, "no --url is given"),
        ("nowhere.txt", {}, "neither a URL nor a file"),
        ("ftp://a:1", {}, "no http or https URL"),
        ("http://a:1,http://a:1", {}, "names http://a:1 twice"),
        ("http://a:1", {"in_flite": 3}, "did you mean 'in_flight'"),
        ("http://a:1", {"in_flight": 0}, "a number above 0"),
        ("http://a:1", {"in_flight": True}, "a number above 0"),
        ("http://a:1", {"server": "tgi"}, "servers: vllm, sglang, trl, openai"),
    ],
)
def test_settings_are_checked(opened: Open, url: str, args: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        opened(url, **args)
    assert said in str(raised.value)


def test_a_device_cannot_be_chosen(teacher_folder: Path) -> None:
    with pytest.raises(InputError, match="device 'cuda' cannot be chosen for server"):
        open_engine("server", str(teacher_folder), url="http://a:1", device="cuda")
