"""The transformers engine against plain full forward passes, and its sampling helpers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from s2d_store.engines import output_head
from s2d_store.engines import transformers_engine as module
from s2d_store.engines.base import Sample, SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.output_checks import check_topk
from s2d_store.engines.transformers_engine import TransformersEngine
from s2d_store.errors import EngineError, InputError
from tests.support.tiny_models import EOS_ID, save_tiny_model

VOCAB = 100
PROMPTS = ("What is 17 + 4?", "2", "Name a prime above 100, then explain.", "x = 3y; y = 7. x?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model", layers=2)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(str(folder), device="cpu", batch_size=8)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def dense(folder: Path) -> Any:
    """The same weights in float64, run without a cache, padding or batching."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


def requests_of(engine: TransformersEngine, n: int, seed: int = 0) -> list[SampleRequest]:
    """Groups of two rollouts per prompt, so that batches mix lengths and share prompts."""
    return [
        SampleRequest(f"r{i}", prompt_ids(engine, PROMPTS[i // 2 % len(PROMPTS)]), seed + i)
        for i in range(n)
    ]


def prompt_ids(engine: TransformersEngine, text: str) -> list[int]:
    ids: list[int] = engine.tokenizer(text)["input_ids"]
    return ids


def dense_logprobs(dense: Any, prompt: Any, response: Any) -> NDArray[np.float64]:
    """(T, V): row t is the distribution of response token t."""
    sequence = torch.tensor([[*map(int, prompt), *map(int, response)]])
    with torch.no_grad():
        logits = dense(sequence).logits[0].log_softmax(-1)
    rows: NDArray[np.float64] = logits[len(prompt) - 1 : sequence.shape[1] - 1].numpy()
    return rows


def tokens_of(samples: list[Sample]) -> list[list[int]]:
    return [sample.response_token_ids.tolist() for sample in samples]


def test_a_rerun_draws_the_same_tokens_and_other_seeds_draw_others(
    engine: TransformersEngine,
) -> None:
    params = SamplingParams(max_tokens=24)
    first, again = (list(engine.sample(requests_of(engine, 12), params, 3)) for _ in range(2))
    other = list(engine.sample(requests_of(engine, 12, seed=500), params, 3))

    assert tokens_of(first) == tokens_of(again)
    for a, b in zip(first, again, strict=True):
        assert a.topk is not None and b.topk is not None
        np.testing.assert_array_equal(a.topk.logprobs, b.topk.logprobs)
    assert all(a != b for a, b in zip(tokens_of(first), tokens_of(other), strict=True))
    # Two rollouts of one prompt differ as well.
    assert tokens_of(first)[0] != tokens_of(first)[1]


def test_a_run_that_resumes_at_a_block_repeats_the_rest(engine: TransformersEngine) -> None:
    params, requests = SamplingParams(max_tokens=16), requests_of(engine, 20)
    whole = list(engine.sample(requests, params, 2))
    rest = list(engine.sample(requests[8:], params, 2))

    assert [sample.rollout_id for sample in rest] == [r.rollout_id for r in requests[8:]]
    assert tokens_of(whole)[8:] == tokens_of(rest)
    for a, b in zip(whole[8:], rest, strict=True):
        np.testing.assert_array_equal(a.response_logprobs, b.response_logprobs)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_tokens=40),
        SamplingParams(max_tokens=40, temperature=0.6, top_p=0.8, top_k=20),
    ],
    ids=["plain", "filtered"],
)
def test_stored_logprobs_are_raw_whatever_the_sampling(
    engine: TransformersEngine, dense: Any, params: SamplingParams
) -> None:
    requests = requests_of(engine, 8)
    for request, sample in zip(requests, engine.sample(requests, params, 5), strict=True):
        expected = dense_logprobs(dense, request.prompt_token_ids, sample.response_token_ids)
        rows = np.arange(len(sample.response_token_ids))
        topk = sample.topk
        assert topk is not None
        assert topk.token_ids.dtype == np.int32 and topk.logprobs.dtype == np.float32
        assert sample.response_logprobs.dtype == np.float32
        np.testing.assert_allclose(
            sample.response_logprobs, expected[rows, sample.response_token_ids], atol=2e-5
        )
        np.testing.assert_allclose(topk.logprobs, -np.sort(-expected, axis=1)[:, :5], atol=2e-5)
        np.testing.assert_allclose(
            np.take_along_axis(expected, topk.token_ids, axis=1), topk.logprobs, atol=2e-5
        )


def test_batch_composition_changes_logprobs_by_rounding_only(folder: Path) -> None:
    params = SamplingParams(max_tokens=20)
    batched, alone = (
        TransformersEngine(str(folder), device="cpu", batch_size=size) for size in (8, 1)
    )
    requests = requests_of(batched, 8)
    together = list(batched.sample(requests, params, 4))
    single = list(alone.sample(requests, params, 4))

    assert tokens_of(together) == tokens_of(single)
    for a, b in zip(together, single, strict=True):
        assert a.finish_reason == b.finish_reason
        np.testing.assert_allclose(a.response_logprobs, b.response_logprobs, atol=2e-5)


def test_dropping_finished_rows_changes_nothing(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, widths = SamplingParams(max_tokens=120), []
    requests = requests_of(engine, 8)
    forward = engine._model.forward

    def spy(**kwargs: Any) -> Any:
        widths.append(len(kwargs["input_ids"]))
        return forward(**kwargs)

    monkeypatch.setattr(engine._model, "forward", spy)
    dropping = list(engine.sample(requests, params, 4))
    dropped_widths = widths.copy()
    widths.clear()
    monkeypatch.setattr(module, "DROP_FRACTION", 1.1)
    keeping = list(engine.sample(requests, params, 4))

    assert min(dropped_widths) < 8 and set(widths[1:]) == {8}
    assert tokens_of(dropping) == tokens_of(keeping)
    for a, b in zip(dropping, keeping, strict=True):
        assert a.finish_reason == b.finish_reason
        assert a.topk is not None and b.topk is not None
        np.testing.assert_allclose(a.topk.logprobs, b.topk.logprobs, atol=2e-5)


def test_each_distinct_prompt_of_a_block_is_prefilled_once(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes, forward = [], engine._model.forward

    def spy(**kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(**kwargs)

    monkeypatch.setattr(engine._model, "forward", spy)
    list(engine.sample(requests_of(engine, 8), SamplingParams(max_tokens=2), 0))
    assert shapes[0] == (4, max(map(len, PROMPTS)))


def test_finish_reasons(engine: TransformersEngine) -> None:
    samples = list(engine.sample(requests_of(engine, 16), SamplingParams(max_tokens=50), 0))
    reasons = {sample.finish_reason for sample in samples}
    assert reasons == {"stop", "length"}
    for sample in samples:
        tokens = sample.response_token_ids.tolist()
        assert sample.topk is None
        assert EOS_ID not in tokens[:-1]
        if sample.finish_reason == "stop":
            assert tokens[-1] == EOS_ID
        else:
            assert len(tokens) == 50 and tokens[-1] != EOS_ID


def test_eos_ids_come_from_generation_config_and_tokenizer(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    config = transformers.GenerationConfig.from_pretrained(folder)
    config.eos_token_id = [20, 21]
    config.save_pretrained(folder)
    engine = TransformersEngine(str(folder), device="cpu")
    params = SamplingParams(max_tokens=200)
    samples = list(engine.sample(requests_of(engine, 24), params, 0))
    last = {s.response_token_ids[-1] for s in samples if s.finish_reason == "stop"}
    assert last == {20, 21, EOS_ID}


def test_temperature_zero_takes_the_likeliest_token(engine: TransformersEngine) -> None:
    params = SamplingParams(temperature=0, max_tokens=30)
    for sample in engine.sample(requests_of(engine, 4), params, 1):
        assert sample.topk is not None
        np.testing.assert_array_equal(sample.response_token_ids, sample.topk.token_ids[:, 0])


def sampled_scores(engine: TransformersEngine, n: int) -> list[ScoreRequest]:
    requests = requests_of(engine, n)
    samples = engine.sample(requests, SamplingParams(max_tokens=30), 0)
    return [
        ScoreRequest(r.rollout_id, r.prompt_token_ids, s.response_token_ids)
        for r, s in zip(requests, samples, strict=True)
    ]


def test_score_rows_align_with_a_dense_reference(
    engine: TransformersEngine, dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small limits, so that windows, batches and chunks all have borders inside this input.
    monkeypatch.setattr(output_head, "CHUNK_TOKENS", 7)
    monkeypatch.setattr(output_head, "BLOCK_ELEMENTS", 7 * 30)
    monkeypatch.setattr(module, "SCORE_WINDOW", 6)
    monkeypatch.setattr(engine, "_max_batch_tokens", 150)
    requests = sampled_scores(engine, 10)
    scored = dict(engine.score(iter(requests), 6))

    assert scored.keys() == {request.rollout_id for request in requests}
    for request in requests:
        topk = scored[request.rollout_id]
        expected = dense_logprobs(dense, request.prompt_token_ids, request.response_token_ids)
        rows = np.arange(len(expected))
        np.testing.assert_allclose(topk.logprobs, -np.sort(-expected, axis=1)[:, :6], atol=2e-5)
        np.testing.assert_allclose(
            np.take_along_axis(expected, topk.token_ids, axis=1), topk.logprobs, atol=2e-5
        )
        np.testing.assert_allclose(
            topk.sampled_logprobs, expected[rows, request.response_token_ids], atol=2e-5
        )


def test_score_agrees_with_what_sampling_kept(engine: TransformersEngine) -> None:
    requests = requests_of(engine, 8)
    samples = list(engine.sample(requests, SamplingParams(max_tokens=30), 4))
    scored = dict(
        engine.score(
            (
                ScoreRequest(r.rollout_id, r.prompt_token_ids, s.response_token_ids)
                for r, s in zip(requests, samples, strict=True)
            ),
            4,
        )
    )
    for sample in samples:
        assert sample.topk is not None
        topk = scored[sample.rollout_id]
        np.testing.assert_allclose(topk.logprobs, sample.topk.logprobs, atol=2e-5)
        np.testing.assert_allclose(topk.sampled_logprobs, sample.response_logprobs, atol=2e-5)


def test_policy_support_gathers_the_given_ids_in_their_order(
    engine: TransformersEngine, dense: Any
) -> None:
    rng = np.random.default_rng(5)
    plain = sampled_scores(engine, 6)
    requests = [
        ScoreRequest(
            r.rollout_id,
            r.prompt_token_ids,
            r.response_token_ids,
            # Rows of unlike width, and one request without support, come in the same stream.
            np.argsort(rng.random((len(r.response_token_ids), VOCAB)))[:, : 3 + i % 2].astype(
                np.int32
            ),
        )
        for i, r in enumerate(plain[:5])
    ] + [plain[5]]
    scored = dict(engine.score(requests, 2))

    assert scored["r5"].token_ids.shape[1] == 2
    for request in requests[:5]:
        topk = scored[request.rollout_id]
        assert request.support is not None
        np.testing.assert_array_equal(topk.token_ids, request.support)
        expected = dense_logprobs(dense, request.prompt_token_ids, request.response_token_ids)
        np.testing.assert_allclose(
            topk.logprobs, np.take_along_axis(expected, request.support, axis=1), atol=2e-5
        )
        rows = np.arange(len(expected))
        np.testing.assert_allclose(
            topk.sampled_logprobs, expected[rows, request.response_token_ids], atol=2e-5
        )


def test_score_of_an_empty_response_and_of_k_zero(engine: TransformersEngine) -> None:
    empty = np.array([], dtype=np.int32)
    requests = [ScoreRequest("empty", [5, 6], empty), ScoreRequest("one", [5, 6], empty + 0)]
    assert all(topk.token_ids.shape == (0, 3) for _, topk in engine.score(requests, 3))
    (_, topk), *_ = engine.score([ScoreRequest("k0", [5], np.array([6, 7], dtype=np.int32))], 0)
    assert topk.token_ids.shape == (2, 0) and topk.sampled_logprobs.shape == (2,)


def test_full_vocabulary_mass_is_one(engine: TransformersEngine) -> None:
    (_, topk), *_ = engine.score(sampled_scores(engine, 1), VOCAB)
    np.testing.assert_allclose(np.exp(topk.logprobs).sum(axis=1), 1, atol=1e-5)


def test_k_above_the_vocabulary_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(EngineError, match=f"(?s)top k of 101.*between 0 and {VOCAB}"):
        engine.sample(requests_of(engine, 1), SamplingParams(), VOCAB + 1)
    with pytest.raises(EngineError, match="top k of 101"):
        engine.score(iter(()), VOCAB + 1)


def test_sequences_above_the_context_are_refused(folder: Path) -> None:
    engine = TransformersEngine(str(folder), device="cpu", max_model_len=32)
    request = SampleRequest("long-one", list(range(10, 30)), 0)
    with pytest.raises(InputError, match=r"(?s)long-one needs 33 tokens.*--skip-too-long"):
        engine.sample([request], SamplingParams(max_tokens=13), 0)
    assert len(list(engine.sample([request], SamplingParams(max_tokens=12), 0))) == 1
    score = ScoreRequest("long-two", list(range(20)), np.arange(13, dtype=np.int32))
    with pytest.raises(InputError, match="long-two needs 33"):
        list(engine.score([score], 1))
    with pytest.raises(InputError, match="max_model_len is 4096"):
        TransformersEngine(str(folder), device="cpu", max_model_len=4096)


def test_ids_outside_the_vocabulary_are_refused(engine: TransformersEngine) -> None:
    good = np.array([5, 6], dtype=np.int32)
    with pytest.raises(EngineError, match="rollout p holds token id 100"):
        engine.sample([SampleRequest("p", [3, VOCAB], 0)], SamplingParams(), 0)
    for request in (
        ScoreRequest("a", [VOCAB], good),
        ScoreRequest("a", [1], np.array([4, VOCAB], dtype=np.int32)),
        ScoreRequest("a", [1], good, np.array([[1, 2], [VOCAB, 3]], dtype=np.int32)),
    ):
        with pytest.raises(EngineError, match="rollout a holds token id 100"):
            list(engine.score([request], 2))
    with pytest.raises(EngineError, match=r"support of shape \(1, 2\)"):
        list(engine.score([ScoreRequest("a", [1], good, np.array([[1, 2]], np.int32))], 2))


def test_logits_that_are_not_numbers_are_found_by_the_check_before_storing(tmp_path: Path) -> None:
    engine = TransformersEngine(str(save_tiny_model(tmp_path / "model")), device="cpu")
    with torch.no_grad():
        engine._model.get_output_embeddings().weight[7] = float("nan")
    (sample,) = engine.sample(requests_of(engine, 1), SamplingParams(max_tokens=3), 2)
    assert sample.topk is not None
    with pytest.raises(EngineError, match=r"r0, position 0: .*nan"):
        check_topk(
            sample.rollout_id,
            sample.topk,
            len(sample.response_token_ids),
            support="own",
            vocab_size=engine.vocab_size,
            response_token_ids=sample.response_token_ids,
        )


def test_memory_exhaustion_says_what_to_lower(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(**_: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB\nmore")

    monkeypatch.setattr(engine._model, "forward", forward)
    with pytest.raises(EngineError, match=r"(?s)out of memory.*20 GiB\n.*--batch-size"):
        list(engine.sample(requests_of(engine, 1), SamplingParams(max_tokens=3), 2))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_tiny_model(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"(?s)incomplete.*up_proj"):
        TransformersEngine(str(folder), device="cpu")


def test_unloadable_models_and_arguments(folder: Path, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(EngineError, match="no causal language model"):
        TransformersEngine(str(tmp_path / "model"), device="cpu")
    with pytest.raises(InputError, match="dtype 'int4'"):
        TransformersEngine(str(folder), device="cpu", dtype="int4")
    with pytest.raises(InputError, match="device 'tpu'"):
        TransformersEngine(str(folder), device="tpu")
    with pytest.raises(InputError, match="batch_size is 0"):
        TransformersEngine(str(folder), device="cpu", batch_size=0)


def test_bfloat16_logprobs_are_normalised_in_float32(folder: Path) -> None:
    engine = TransformersEngine(str(folder), device="cpu", dtype="bfloat16")
    (sample,) = engine.sample(requests_of(engine, 1), SamplingParams(max_tokens=10), VOCAB)
    (_, scored), *_ = engine.score(sampled_scores(engine, 1), VOCAB)
    assert sample.topk is not None
    for topk in (sample.topk, scored):
        np.testing.assert_allclose(np.exp(topk.logprobs).sum(axis=1), 1, atol=1e-5)
