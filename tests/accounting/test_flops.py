"""Estimates of FLOPs against torch's counter, on small dense and mixture-of-experts models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from s2d_store.accounting.flops import Lengths, forward_flops, sampling_flops, training_flops
from s2d_store.policies import registry
from s2d_store.policies.registry import Registered
from s2d_store.store import Store
from tests.support import synthetic
from tests.support.tiny_models import save_tiny_tokenizer, tiny_vocabulary

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from torch.utils import flop_counter  # noqa: E402

pytestmark = pytest.mark.slow
PROMPT = 200
WITHIN = 0.05
SHAPE = {
    "vocab_size": len(tiny_vocabulary()),
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 9000,
}
# The counter knows attention's kernels on GPUs; the CPU's is counted by the same formulas.
_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
ON_CPU = {
    _attention: lambda q, k, v, *_, **__: flop_counter.sdpa_flop_count(q, k, v),
    _backward: lambda g, q, k, v, *_, **__: flop_counter.sdpa_backward_flop_count(g, q, k, v),
}
# The counter does not know grouped products: experts run one after another.
KERNELS = {"attn_implementation": "sdpa", "experts_implementation": "eager"}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}


@dataclass(frozen=True)
class Model:
    """A model and what the store knows of it."""

    policy: Registered
    torch: Any


def saved(kind: str, folder: Path, root: Path) -> Model:
    """A random model, registered by what its files say."""
    if kind == "experts":
        config = transformers.Qwen3MoeConfig(**SHAPE, **EXPERTS, decoder_sparse_step=1)
    else:
        config = transformers.Qwen3Config(**SHAPE, tie_word_embeddings=kind == "tied")
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, **KERNELS)
    model.save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return Model(registry.register(Store.init(root), kind, str(folder)), model)


@pytest.fixture(scope="module", params=["tied", "untied", "experts"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp(request.param)
    return saved(request.param, folder / "model", folder / "store")


def counted(work: Callable[[], object]) -> int:
    """FLOPs that torch's counter sees."""
    with flop_counter.FlopCounterMode(display=False, custom_mapping=ON_CPU) as counter:
        work()
    return counter.get_total_flops()


def tokens(length: int) -> Any:
    return torch.randint(0, SHAPE["vocab_size"], (1, length))


def loss(model: Model, length: int) -> Any:
    """The mean of the logits at the response's tokens alone, as trainers project them."""
    return model.torch(tokens(length), logits_to_keep=length - PROMPT).logits.mean()


@pytest.mark.parametrize("length", [1024, 8192])
def test_a_forward_pass(model: Model, length: int) -> None:
    with torch.no_grad():
        found = counted(lambda: loss(model, length))
    estimate = forward_flops(model.policy, Lengths.of(PROMPT, length - PROMPT))
    assert estimate == pytest.approx(found, rel=WITHIN)


@pytest.mark.parametrize("length", [1024, 8192])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training(model: Model, length: int, checkpointing: bool) -> None:
    if checkpointing:
        model.torch.gradient_checkpointing_enable({"use_reentrant": False})
    model.torch.train()
    try:
        found = counted(lambda: loss(model, length).backward())
    finally:
        model.torch.gradient_checkpointing_disable()
        model.torch.eval()
        model.torch.zero_grad()
    lengths = Lengths.of(PROMPT, length - PROMPT)
    estimate = training_flops(model.policy, lengths, checkpointing=checkpointing)
    assert estimate == pytest.approx(found, rel=WITHIN)


def test_sampling_with_a_cache(model: Model) -> None:
    asked = {"max_new_tokens": 100, "min_new_tokens": 100, "do_sample": False}
    found = counted(lambda: model.torch.generate(tokens(PROMPT), **asked, pad_token_id=0))
    assert sampling_flops(model.policy, PROMPT, 100) == pytest.approx(found, rel=WITHIN)


def test_without_attention_long_sequences_are_counted_too_low(model: Model) -> None:
    """What the estimate was before: 2 x parameters x tokens."""
    long = Lengths.of(PROMPT, 8192 - PROMPT)
    used = model.policy.active_parameters or 0
    assert 2 * used * 8192 < 0.5 * forward_flops(model.policy, long)


def test_queries_estimate_by_the_same_formulas(store: Store) -> None:
    """Macros with a policy's size as view policy_sizes has it."""
    known = {"policy_id": "p", "name": "p", "location": "", "tokenizer_fingerprint": ""}
    sizes: dict[str, Any] = {
        "n_parameters": 10_000,
        "active_parameters": 7_000,
        "lookup_parameters": 900,
    }
    sizes |= {"head_parameters": 1_100, "attention_width": 64}
    policy = Registered(**(known | sizes))
    row = synthetic.policy("p") | sizes
    store.commit({"policies": synthetic.table("policies", [row])}, fresh=True)
    lengths = Lengths(30, 50, 80.0**2)
    for checkpointing in (False, True):
        ((forward, trained),) = store.sql(
            "SELECT forward_flops(s, 80, 50, 6400), training_flops(s, $again, 80, 50, 6400) "
            "FROM policy_sizes AS s",
            {"again": checkpointing},
        ).fetchall()
        assert forward == forward_flops(policy, lengths)
        assert trained == training_flops(policy, lengths, checkpointing=checkpointing)
