"""What goes wrong between an engine and its servers: tried again, left out, counted or refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.responses import JSONResponse, Response

from s2d_store.engines.base import SampleRequest, SamplingParams
from s2d_store.engines.registry import open_engine
from s2d_store.errors import EngineError
from tests.support.inference_server import Behaviour, serving, start, vllm_app
from tests.support.tiny_models import save_tiny_model

K = 3
PARAMS = SamplingParams(max_tokens=6)
COMPLETIONS = "/v1/completions"
NOWHERE = "http://127.0.0.1:9"
Open = Callable[..., Any]


def requests(n: int) -> list[SampleRequest]:
    return [SampleRequest(f"r{i}", [5 + i % 40, 7, 9], i) for i in range(n)]


class Once:
    """A fault of the first answer to each seed, or of every answer to some."""

    def __init__(self, change: Callable[[Any], Any], always: tuple[int, ...] = ()) -> None:
        self.change, self.always = change, always
        self.seen: set[int] = set()
        self.on = False

    def __call__(self, path: str, body: dict[str, Any], answer: Any) -> Any:
        seed = body.get("seed")
        if not self.on or path != COMPLETIONS or isinstance(answer, Response):
            return None
        first = seed not in self.seen
        self.seen.add(seed)
        always = seed in self.always
        return self.change(answer) if always or (first and not self.always) else None


def cut(answer: Any) -> Response:
    """Half a body under the length of a whole one."""
    text = json.dumps(answer)
    response = Response(text[: len(text) // 2], media_type="application/json")
    return response


def with_nan(answer: Any) -> Any:
    answer["choices"][0]["logprobs"]["token_logprobs"][0] = float("nan")
    first = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    first[next(iter(first))] = float("nan")
    return answer


def past_the_vocabulary(answer: Any) -> Any:
    answer["choices"][0]["token_ids"][0] = 70_000
    return answer


def of_other_tokens(answer: Any) -> Any:
    answer["choices"][0]["prompt_token_ids"] = [1, 2, 3]
    return answer


def aborted(answer: Any) -> Any:
    answer["choices"][0]["finish_reason"] = "abort"
    return answer


FAULTS: dict[str, Callable[[Any], Any]] = {
    "half": cut,
    "nan": with_nan,
    "vocabulary": past_the_vocabulary,
    "tokens": of_other_tokens,
    "abort": aborted,
    "error": lambda _: JSONResponse({"error": {"message": "boom"}}, 500),
    "busy": lambda _: JSONResponse({}, 429, {"Retry-After": "0"}),
    "empty": lambda _: {"choices": []},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_answer_is_asked_for_again(model: Any, opened: Open, fault: str) -> None:
    once = Once(FAULTS[fault])
    with serving("vllm", model, fault=once) as server:
        engine = opened(server.url)
        once.on = True
        samples = list(engine.sample(requests(6), PARAMS, K))
    assert sorted(s.rollout_id for s in samples) == [f"r{i}" for i in range(6)]
    assert not engine.rejected and once.seen == set(range(6))
    truth = {s.rollout_id: s for s in model.sample(requests(6), PARAMS, K)}
    for sample in samples:
        np.testing.assert_array_equal(
            sample.response_token_ids, truth[sample.rollout_id].response_token_ids
        )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("half", "no JSON"),
        ("nan", "NaN"),
        ("vocabulary", "token id 70000, outside [0, "),
        ("tokens", "other prompt tokens"),
        ("error", "boom"),
    ],
)
def test_an_answer_that_stays_bad_is_counted_and_the_rest_goes_on(
    model: Any, opened: Open, fault: str, said: str
) -> None:
    once = Once(FAULTS[fault], always=(2, 4))
    with serving("vllm", model, fault=once) as server:
        engine = opened(server.url, attempts=2)
        once.on = True
        samples = list(engine.sample(requests(6), PARAMS, K))
    assert sorted(s.rollout_id for s in samples) == ["r0", "r1", "r3", "r5"]
    assert sorted(engine.rejected) == ["r2", "r4"]
    assert all(said in why and server.url in why for why in engine.rejected.values())


def test_where_every_answer_is_bad_the_run_stops(model: Any, opened: Open) -> None:
    once = Once(with_nan, always=tuple(range(100)))
    with serving("vllm", model, fault=once) as server:
        engine = opened(server.url, attempts=1, in_flight=4)
        once.on = True
        with pytest.raises(EngineError, match="none of the first 16 requests") as raised:
            list(engine.sample(requests(100), PARAMS, K))
        assert "NaN" in raised.value.why
        assert len(server.behaviour.asked) < 90, "the rest was not sent"


def test_a_request_that_is_refused_stops_the_run(model: Any, opened: Open) -> None:
    once = Once(lambda _: JSONResponse({"error": {"message": "no such LoRA"}}, 400))
    with serving("vllm", model, fault=once) as server:
        engine = opened(server.url)
        once.on = True
        with pytest.raises(EngineError, match="refuses the request with status 400") as raised:
            list(engine.sample(requests(3), PARAMS, K))
    assert raised.value.why == "no such LoRA"


def test_nobody_there(opened: Open) -> None:
    with pytest.raises(EngineError, match="no endpoint can be used") as raised:
        opened(NOWHERE)
    assert NOWHERE in raised.value.why


def test_one_of_two_is_down(model: Any, opened: Open) -> None:
    with serving("vllm", model) as server:
        engine = opened(f"{NOWHERE},{server.url}")
        (said,) = engine.lacks(PARAMS)
        assert said.startswith(f"{NOWHERE} is left out")
        assert len(list(engine.sample(requests(4), PARAMS, K))) == 4


def test_another_server_that_is_none(model: Any, opened: Open) -> None:
    def nothing(path: str, body: Any, answer: Any) -> Any:
        return JSONResponse({"detail": "Not Found"}, 404)

    with serving("openai", model, fault=nothing) as server, pytest.raises(EngineError) as raised:
        opened(server.url)
    assert "no inference server that s2d knows" in raised.value.why


def test_the_model_must_be_the_one_asked_for(model: Any, opened: Open) -> None:
    with serving("vllm", model) as server, pytest.raises(EngineError) as raised:
        opened(server.url, model="other")
    assert "it serves 'tiny', not 'other'" in raised.value.why


def test_another_tokenizer_behind_it(model: Any, opened: Open, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "swapped", vocab="swapped")
    with serving("vllm", model) as server, pytest.raises(EngineError) as raised:
        opened(server.url, location=other)
    assert "another tokenizer than the policy" in raised.value.why


def test_another_model_behind_one_of_two(model: Any, opened: Open, student_folder: Path) -> None:
    student = open_engine("transformers", str(student_folder), device="cpu", dtype="float32")
    with serving("vllm", model) as first, serving("vllm", student) as second:
        engine = opened(f"{first.url},{second.url}")
        (said,) = engine.lacks(PARAMS)
        assert "another model is behind it" in said
        used = {s.endpoint for s in engine.sample(requests(8), PARAMS, K)}
    assert len(used) == 1


def test_a_proxy_that_rewrites_logprobs(model: Any, opened: Open) -> None:
    def rewrite(path: str, body: Any, answer: Any) -> Any:
        sampled = path == COMPLETIONS and body.get("logprobs") is not None
        if sampled and not isinstance(answer, Response):
            given = answer["choices"][0]["logprobs"]
            given["token_logprobs"] = [v - 1 for v in given["token_logprobs"]]
            given["top_logprobs"] = [
                {name: v - 1 for name, v in top.items()} for top in given["top_logprobs"]
            ]
        return answer

    with serving("vllm", model, fault=rewrite) as server, pytest.raises(EngineError) as raised:
        opened(server.url)
    assert "its logprobs contradict themselves" in raised.value.why


def test_k_above_the_servers_limit(model: Any, opened: Open) -> None:
    with serving("vllm", model, max_logprobs=5) as server:
        opened(server.url, k=5)
        with pytest.raises(EngineError, match="top k of 20 cannot be kept") as raised:
            opened(server.url, k=20)
    assert f"{server.url} returns at most 5" in raised.value.why
    assert "--top-logprobs 5" in raised.value.fix


def test_a_server_that_dies_and_comes_back_loses_nothing(model: Any, opened: Open) -> None:
    behaviour = Behaviour(model)
    server = start(vllm_app(behaviour), behaviour)
    engine = opened(server.url, in_flight=4)
    samples = engine.sample(requests(24), PARAMS, K)
    found = [next(samples) for _ in range(6)]
    server.stop()
    back: list[Any] = []

    def return_later() -> None:
        time.sleep(1)
        back.append(start(vllm_app(behaviour), behaviour, server.port))

    thread = threading.Thread(target=return_later)
    thread.start()
    found += samples
    thread.join()
    back[0].stop()
    assert sorted(s.rollout_id for s in found) == sorted(f"r{i}" for i in range(24))
    assert not engine.rejected


def test_a_server_that_stays_away_ends_the_run(model: Any, opened: Open) -> None:
    behaviour = Behaviour(model)
    server = start(vllm_app(behaviour), behaviour)
    engine = opened(server.url, in_flight=2, wait_s=0.5)
    samples = engine.sample(requests(12), PARAMS, K)
    next(samples)
    server.stop()
    with pytest.raises(EngineError, match=r"no endpoint can be used for 0\.5 s"):
        list(samples)


def test_endpoints_are_read_again_while_it_runs(model: Any, opened: Open, tmp_path: Path) -> None:
    listed = tmp_path / "endpoints.txt"
    with serving("vllm", model) as first, serving("vllm", model) as second:
        listed.write_text(f"{first.url}  # the only one so far\n")
        engine = opened(str(listed), in_flight=2)
        used = {s.endpoint for s in engine.sample(requests(6), PARAMS, K)}
        assert used == {first.url}
        listed.write_text(f"\n{second.url}\n")
        deadline = time.monotonic() + 60
        while used != {second.url} and time.monotonic() < deadline:
            used = {s.endpoint for s in engine.sample(requests(6), PARAMS, K)}
        assert used == {second.url}
        assert [probe.endpoint for probe in engine.probes] == [first.url, second.url]


def test_closing_the_stream_cancels_what_is_under_way(model: Any, opened: Open) -> None:
    with serving("vllm", model) as server:
        engine = opened(server.url, in_flight=2)
        samples = engine.sample(requests(200), PARAMS, K)
        next(samples)
        samples.close()
        engine.close()
        asked = len(server.behaviour.asked)
        assert asked < 100
        time.sleep(0.3)
        assert len(server.behaviour.asked) <= asked + 1, "nothing more is sent"


def test_a_slow_caller_slows_the_sending(model: Any, opened: Open) -> None:
    with serving("vllm", model) as server:
        engine = opened(server.url, in_flight=2)
        before = len(server.behaviour.asked)
        samples = engine.sample(requests(50), PARAMS, K)
        next(samples)
        time.sleep(0.5)
        assert len(server.behaviour.asked) - before <= 5
        assert len(list(samples)) == 49
