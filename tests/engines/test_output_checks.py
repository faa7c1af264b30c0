"""Engines' pure pieces: checks (each failing for its own reason), draws, batches; and opening."""

from __future__ import annotations

import dataclasses
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from s2d_store.encoding.topk import TopK
from s2d_store.engines import registry as open_module
from s2d_store.engines.base import SamplingParams, ScoreRequest
from s2d_store.engines.output_checks import (
    check_k,
    check_lengths,
    check_sampling,
    check_topk,
    check_topk_flat,
)
from s2d_store.engines.registry import open_engine
from s2d_store.engines.torch_sampling import (
    draw_tokens,
    inverse_cdf,
    length_batches,
    rollout_uniforms,
)
from s2d_store.errors import EngineError, InputError
from tests.support.tiny_models import save_tiny_model

VOCAB, T, K = 50, 6, 4


def valid(seed: int = 0, t: int = T) -> tuple[TopK, NDArray[np.int32]]:
    """Own top k of random logits; odd positions sampled the rank-1 token, even ones the last."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(t, VOCAB))
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    order = np.argsort(-logprobs, axis=1)
    tokens = np.where(np.arange(t) % 2, order[:, 1], order[:, -1])
    topk = TopK(
        order[:, :K].astype(np.int32),
        np.take_along_axis(logprobs, order[:, :K], axis=1).astype(np.float32),
        logprobs[np.arange(t), tokens].astype(np.float32),
    )
    return topk, tokens.astype(np.int32)


def check(topk: TopK, tokens: NDArray[np.int32], support: Any = "own", n: int = T) -> None:
    check_topk("r9", topk, n, support=support, vocab_size=VOCAB, response_token_ids=tokens)


def test_good_output_passes() -> None:
    topk, tokens = valid()
    check(topk, tokens)
    shuffled = [2, 0, 3, 1]
    check(
        TopK(topk.token_ids[:, shuffled], topk.logprobs[:, shuffled], topk.sampled_logprobs),
        tokens,
        "policy",
    )
    none = TopK(topk.token_ids[:, :0], topk.logprobs[:, :0], topk.sampled_logprobs)
    check(none, tokens)
    check(TopK(topk.token_ids[:0], topk.logprobs[:0], topk.sampled_logprobs[:0]), tokens[:0], n=0)


def test_minus_infinity_is_a_logprob() -> None:
    topk, tokens = valid()
    topk.logprobs[1, 2:] = -math.inf
    tokens[1], topk.sampled_logprobs[1] = topk.token_ids[1, 3], -math.inf
    check(topk, tokens)


FAULTS = {
    "ids": (0, (3, 2), VOCAB, r"position 3: token id 50 is outside \[0, 50\)"),
    "negative": (0, (3, 2), -1, "position 3: token id -1 is outside"),
    "nan": (1, (2, 1), math.nan, "position 2: logprob nan at rank 1"),
    "positive": (1, (2, 0), 0.01, "position 2: logprob 0.0099.* at rank 0"),
    "order": (1, (4, 3), -0.5, "position 4: logprobs rise after rank 2"),
    "sampled nan": (2, (5,), math.nan, "position 5: the sampled token's logprob is nan"),
    "sampled positive": (2, (5,), 0.5, "position 5: the sampled token's logprob is 0.5"),
    "mismatch": (2, (1,), -5.0, r"position 1: sampled token \d+ has logprob -5.0 but"),
    "missed": (2, (0,), -2.4, "position 0: sampled token .* yet is missing from it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_rollout_and_position(fault: str) -> None:
    field, where, value, message = FAULTS[fault]
    topk, tokens = valid()
    (topk.token_ids, topk.logprobs, topk.sampled_logprobs)[field][where] = value
    with pytest.raises(EngineError, match=f"rollout r9, {message}"):
        check(topk, tokens)


def test_a_repeated_id_is_named() -> None:
    topk, tokens = valid()
    topk.token_ids[2, 3] = topk.token_ids[2, 0]
    with pytest.raises(EngineError, match=rf"position 2: token id {topk.token_ids[2, 0]} .*twice"):
        check(topk, tokens)


@pytest.mark.parametrize("support", ["own", "policy"])
def test_mass_above_one_is_named(support: str) -> None:
    topk, tokens = valid()
    topk.logprobs[4] = math.log(0.26)
    with pytest.raises(EngineError, match=r"position 4: probabilities sum to 1\.0"):
        check(topk, tokens, support)


def test_mass_counts_a_sampled_token_outside_the_support() -> None:
    topk, tokens = valid()
    # 0.96 in the row fits, and so does 0.1 for the sampled token, but not both.
    topk.logprobs[0], topk.sampled_logprobs[0] = math.log(0.24), math.log(0.1)
    with pytest.raises(EngineError, match=r"position 0: probabilities sum to 1\.06"):
        check(topk, tokens, "policy")
    topk.sampled_logprobs[0] = math.log(0.03)
    check(topk, tokens, "policy")


def test_mass_counts_a_sampled_token_inside_the_support_once() -> None:
    topk, tokens = valid()
    tokens[0] = topk.token_ids[0, 3]
    topk.logprobs[0] = np.log([0.4, 0.3, 0.2, 0.1])
    topk.sampled_logprobs[0] = topk.logprobs[0, 3]
    check(topk, tokens)


def test_given_support_need_not_descend_nor_hold_the_likeliest() -> None:
    topk, tokens = valid()
    topk.logprobs[0] = topk.logprobs[0][::-1].copy()
    topk.logprobs[0, :] -= 3
    topk.sampled_logprobs[0] = -0.5
    check(topk, tokens, "policy")


@pytest.mark.parametrize("cut", ["ids", "logprobs", "sampled", "all"])
def test_wrong_counts_are_named(cut: str) -> None:
    topk, tokens = valid()
    fields = {"ids": "token_ids", "logprobs": "logprobs", "sampled": "sampled_logprobs"}
    shorter = {f: getattr(topk, f)[:-1] for name, f in fields.items() if cut in (name, "all")}
    with pytest.raises(EngineError, match="rollout r9: wrong number of top-k entries"):
        check(dataclasses.replace(topk, **shorter), tokens)


def test_the_flat_check_finds_the_rollout() -> None:
    (a, tokens_a), (b, tokens_b) = valid(1, 3), valid(2, 5)
    flat = TopK(
        *(
            np.concatenate([getattr(a, f.name), getattr(b, f.name)])
            for f in dataclasses.fields(TopK)
        )
    )
    tokens = np.concatenate([tokens_a, tokens_b])
    ids, counts = ["a", "empty", "b"], [3, 0, 5]

    def run() -> None:
        check_topk_flat(
            ids, counts, flat, support="own", vocab_size=VOCAB, response_token_ids=tokens
        )

    run()
    flat.logprobs[3, 1] = math.nan
    with pytest.raises(EngineError, match="rollout b, position 0:"):
        run()


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"temperature": -0.1}, "--temperature"),
        ({"temperature": math.nan}, "--temperature"),
        ({"temperature": math.inf}, "--temperature"),
        ({"top_p": 0.0}, "--top-p"),
        ({"top_p": 1.1}, "--top-p"),
        ({"top_k": -1}, "--top-k"),
        ({"max_tokens": 0}, "--max-tokens"),
    ],
)
def test_sampling_parameters_out_of_range(change: dict[str, Any], flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        check_sampling(dataclasses.replace(SamplingParams(), **change))
    check_sampling(SamplingParams(temperature=0, top_p=1, top_k=0, max_tokens=1))


def test_lengths_are_checked_against_the_limit() -> None:
    check_lengths([("a", 60, 40), ("b", 1, 99)], 100)
    with pytest.raises(InputError, match=r"(?s)prompt b needs 101 tokens.*limit of 100.*61 prompt"):
        check_lengths([("a", 60, 40), ("b", 61, 40)], 100, what="prompt")
    with pytest.raises(InputError, match="rollout c has an empty prompt"):
        check_lengths([("c", 0, 40)], 100)


def test_k_is_at_most_the_vocabulary() -> None:
    check_k(VOCAB, VOCAB)
    check_k(0, VOCAB)
    for k in (-1, VOCAB + 1):
        with pytest.raises(EngineError, match=f"top k of {k}"):
            check_k(k, VOCAB)


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(top_k=3), [7, 1, 4]),
        (SamplingParams(top_p=0.5), [7]),
        (SamplingParams(top_p=0.51), [7, 1]),
        (SamplingParams(top_k=4, top_p=0.95), [7, 1, 4]),
        (SamplingParams(top_p=1e-9), [7]),
        (SamplingParams(temperature=1e-4), [7]),
    ],
)
def test_filters_never_give_a_filtered_token(params: SamplingParams, allowed: list[int]) -> None:
    probabilities = np.full(10, 0.01)
    probabilities[[7, 1, 4, 2]] = [0.5, 0.3, 0.1, 0.04]
    logits = torch.from_numpy(np.log(probabilities)).float().expand(5000, -1)
    uniforms = torch.linspace(0, 1 - 2**-53, 5000, dtype=torch.float64)
    drawn = set(draw_tokens(logits, params, uniforms).tolist())
    assert drawn == set(allowed)


@pytest.mark.parametrize(
    "params",
    [SamplingParams(), SamplingParams(temperature=0.5), SamplingParams(top_k=6, top_p=0.9)],
    ids=["plain", "cold", "filtered"],
)
def test_draws_follow_the_softmax(params: SamplingParams) -> None:
    logits = torch.tensor([1.0, -0.5, 0.3, 2.0, -1.0, 0.0, 1.5, -3.0])
    expected = (logits / params.temperature).softmax(0).double()
    if params.top_k:
        order = expected.argsort(descending=True)
        head = expected[order[: params.top_k]] / expected[order[: params.top_k]].sum()
        kept = order[: int((head.cumsum(0) - head < params.top_p).sum())]
        expected = torch.zeros(8, dtype=torch.float64).scatter(0, kept, expected[kept])
        expected /= expected.sum()
    n = 20_000
    uniforms = torch.from_numpy(rollout_uniforms([11], n)[0])
    counts = torch.bincount(draw_tokens(logits.expand(n, -1), params, uniforms), minlength=8)
    real = expected > 0
    chi_square = (((counts - n * expected) ** 2)[real] / (n * expected[real])).sum()
    assert counts[~real].sum() == 0
    # The 99.9 % quantile with 7 degrees of freedom, the most there are here.
    assert chi_square < 24.3


def test_uniforms_depend_on_the_seed_alone() -> None:
    long, short = rollout_uniforms([3, 2**63 - 1], 40), rollout_uniforms([2**63 - 1], 7)
    np.testing.assert_array_equal(long[1, :7], short[0])
    assert not np.isclose(long[0], long[1]).any()
    assert (long >= 0).all() and (long < 1).all()


def test_inverse_cdf_edges() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.0, 3.0, 0.0]]).expand(4, -1)
    uniforms = torch.tensor([0.0, 0.2499, 0.25, 1 - 2**-53], dtype=torch.float64)
    assert inverse_cdf(weights, uniforms).tolist() == [1, 1, 3, 3]


def test_length_batches_keep_to_the_limit_and_lose_nothing() -> None:
    rng = np.random.default_rng(0)
    requests = [
        ScoreRequest(
            str(i),
            [1] * int(rng.integers(1, 20)),
            np.ones(int(rng.integers(1, 20)), np.int32),
            np.ones((1, 4), np.int32) if i % 3 == 0 else None,
        )
        for i in range(60)
    ] + [ScoreRequest("huge", [1] * 90, np.ones(30, np.int32))]
    batches = list(length_batches(requests, 100))
    lengths = [[len(r.prompt_token_ids) + len(r.response_token_ids) for r in b] for b in batches]

    assert sorted(r.rollout_id for b in batches for r in b) == sorted(
        r.rollout_id for r in requests
    )
    assert all(max(row) * len(row) <= 100 or len(row) == 1 for row in lengths)
    assert all(len({r.support is None for r in b}) == 1 for b in batches)
    assert len(batches) < 30


def test_open_transformers(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path / "model"))
    engine = open_engine(
        "transformers", folder, device="cpu", engine_args={"max_batch_tokens": 100}
    )
    assert (engine.name, engine.vocab_size, engine.max_model_len) == ("transformers", 100, 2048)
    engine.close()
    for wrong in ({"gpu_memory": 0.5}, {"max_batch_tokens": 0}, {"max_batch_tokens": "9"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            open_engine("transformers", folder, device="cpu", engine_args=wrong)


def test_unknown_engine_and_device_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"(?s)'tgi' is unknown.*transformers, vllm"):
        open_engine("tgi", "anywhere")
    monkeypatch.setattr(open_module, "find_spec", lambda name: find_spec("json"))
    with pytest.raises(InputError, match="device 'cpu' cannot be chosen for vllm"):
        open_engine("vllm", "anywhere", device="cpu")


@pytest.mark.parametrize(
    ("engine", "missing", "command"),
    [("transformers", "torch", r"s2d\[train\]"), ("vllm", "vllm", r"s2d\[vllm\]")],
)
def test_a_missing_library_names_its_pip_command(
    engine: str, missing: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        open_module, "find_spec", lambda name: None if name == missing else find_spec("json")
    )
    with pytest.raises(EngineError, match=f'(?s)needs {missing}, .*pip install "{command}"'):
        open_engine(engine, "anywhere")
