"""The output head in blocks against dense logits, for heads that transformers' models have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from s2d_store.engines import output_head as module
from s2d_store.engines.output_head import OutputHead
from s2d_store.engines.torch_sampling import gather_topk
from s2d_store.errors import EngineError

# Of float32 logprobs of about 10, in two orders of summation.
ROUNDING = 5e-6
VOCAB, PADDED, TOKENS, K, MOST = 53, 60, 23, 6, 20
SHAPE = {
    "vocab_size": PADDED,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": transformers.LlamaConfig(),
    "tied": transformers.Qwen2Config(tie_word_embeddings=True),
    "bias": transformers.PhiConfig(),
    "granite": transformers.GraniteConfig(logits_scaling=8.0),
    "gemma2": transformers.Gemma2Config(final_logit_softcapping=0.5, head_dim=16),
    "cohere": transformers.CohereConfig(logit_scale=0.25),
}


class Wrapped(torch.nn.Linear):
    """A head that may do more than its matrix product."""


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(7)
    config = CONFIGS[request.param]
    config.update(SHAPE)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        # Logits of standard deviation about 3: a tiny model's own are nearly even.
        model.get_output_embeddings().weight.normal_(std=0.5)
        if model.get_output_embeddings().bias is not None:
            model.get_output_embeddings().bias.normal_()
    return model


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Chunks of 10 tokens and blocks of 7 ids: borders everywhere, K above and below a block."""
    monkeypatch.setattr(module, "CHUNK_TOKENS", 10)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 70)
    return 70


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states (N, H), sampled tokens (N,) and ids to gather (N, MOST)."""
    generator = torch.Generator().manual_seed(3)
    hidden_NH = torch.randn(TOKENS, SHAPE["hidden_size"], generator=generator)
    shuffled = torch.rand(TOKENS, PADDED, generator=generator).argsort(dim=1)
    return hidden_NH, shuffled[:, -1], shuffled[:, :MOST]


def test_it_repeats_what_a_model_does_to_its_logits(model: Any) -> None:
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(OutputHead(model)(hidden), model(input_ids=ids).logits)


@pytest.mark.parametrize("k", [0, K, MOST])
def test_blocks_are_the_dense_logprobs(model: Any, small_blocks: int, k: int) -> None:
    head = OutputHead(model)
    hidden_NH, tokens_N, ids_NK = inputs()
    with torch.inference_mode():
        logits_NV = head(hidden_NH)
        for support in (k, ids_NK[:, :k]):
            ids, logprobs, sampled = head.topk(hidden_NH, tokens_N, support, VOCAB)
            expected = gather_topk(logits_NV, tokens_N, support, VOCAB)
            assert head.in_blocks and ids.dtype == torch.int32 and ids.shape == (TOKENS, k)
            # Of logits that are equal but for rounding either may come first: compare their values.
            torch.testing.assert_close(logprobs, expected[1], rtol=0, atol=ROUNDING)
            at_ids = logits_NV.log_softmax(dim=1).gather(1, ids.long())
            torch.testing.assert_close(logprobs, at_ids, rtol=0, atol=ROUNDING)
            torch.testing.assert_close(sampled, expected[2], rtol=0, atol=ROUNDING)
            assert all(len(set(row)) == k and max(row, default=0) < PADDED for row in ids.tolist())
            assert not isinstance(support, int) or bool((ids < VOCAB).all())


def test_bfloat16_blocks_are_normalised_in_float32(model: Any, small_blocks: int) -> None:
    head = OutputHead(model.bfloat16())
    hidden_NH, tokens_N, ids_NK = inputs()
    hidden_NH = hidden_NH.bfloat16()
    with torch.inference_mode():
        logits_NV = head(hidden_NH)
        given = head.topk(hidden_NH, tokens_N, ids_NK, PADDED)
        every = head.topk(hidden_NH, tokens_N, PADDED, PADDED)[1]
        expected = gather_topk(logits_NV, tokens_N, ids_NK)
    # A product over part of the vocabulary may round a logit of about 8 to its bfloat16 neighbour.
    torch.testing.assert_close(given[1], expected[1], rtol=0, atol=0.1)
    torch.testing.assert_close(given[2], expected[2], rtol=0, atol=0.1)
    torch.testing.assert_close(every.exp().sum(dim=1), torch.ones(TOKENS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", ["gemma2"], indirect=True)
@pytest.mark.parametrize("given", [False, True])
def test_no_tensor_has_a_row_of_the_vocabulary_for_each_token(
    model: Any, small_blocks: int, given: bool
) -> None:
    head = OutputHead(model)
    hidden_NH, tokens_N, ids_NK = inputs()
    there = {t.untyped_storage().data_ptr() for t in (hidden_NH, head._projection.weight)}
    made: list[int] = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in there:
                made.append(result.numel())
            return result

    with torch.no_grad(), Noted():
        head.topk(hidden_NH, tokens_N, ids_NK[:, :K] if given else K, VOCAB)
    # A block, the candidates of a chunk's top k, or the result.
    assert small_blocks <= max(made) <= max(small_blocks, 10 * 2 * K, TOKENS * K)
    assert max(made) < TOKENS * VOCAB / 8


@pytest.mark.parametrize("model", ["bias"], indirect=True)
def test_a_head_that_is_more_than_a_product_is_called_as_it_is(
    model: Any, small_blocks: int
) -> None:
    hidden_NH, tokens_N, ids_NK = inputs()
    plain = OutputHead(model)
    model.get_output_embeddings().__class__ = Wrapped
    wrapped = OutputHead(model)
    assert plain.in_blocks and not wrapped.in_blocks
    with torch.inference_mode():
        for support in (K, ids_NK):
            found = (head.topk(hidden_NH, tokens_N, support, VOCAB) for head in (plain, wrapped))
            for ours, theirs in zip(*found, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("model", ["bias"], indirect=True)
def test_what_is_impossible_and_what_is_no_number(model: Any, small_blocks: int) -> None:
    head = OutputHead(model)
    hidden_NH, tokens_N, ids_NK = inputs()
    bias_V = model.get_output_embeddings().bias
    with torch.inference_mode():
        bias_V[:30] = float("-inf")  # whole blocks of them
        found = head.topk(hidden_NH, tokens_N, ids_NK, VOCAB)
        expected = gather_topk(head(hidden_NH), tokens_N, ids_NK)
        torch.testing.assert_close(found[1:], expected[1:], rtol=0, atol=ROUNDING)
        bias_V[40] = float("nan")
        assert all(column.isnan().all() for column in head.topk(hidden_NH, tokens_N, K, VOCAB)[1:])


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_a_model_that_it_does_not_understand_is_refused(model: Any) -> None:
    forward = model.forward

    def odd(**kwargs: Any) -> Any:
        output = forward(**kwargs)
        output.logits = output.logits + 1 + output.logits.abs()
        return output

    model.forward = odd
    with pytest.raises(EngineError, match="changes its logits"):
        OutputHead(model)
