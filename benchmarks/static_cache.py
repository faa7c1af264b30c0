"""CPU time of sampling with transformers' static cache in place of the dynamic one.

    python -m benchmarks.static_cache

A random model with layers like SmolLM2-135M's, six of them, under the transformers engine, greedy;
the static cache is exactly as long as prompt and response, which is the least it can be. Both run
in turn in each round; the tokens have to be the same.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median
from unittest import mock

import torch
import transformers

from s2d_store.engines.base import SampleRequest, SamplingParams
from s2d_store.engines.transformers_engine import TransformersEngine
from tests.support.tiny_models import save_tiny_model

VOCAB = 8192


def made_engine() -> TransformersEngine:
    """An engine whose model no end of sequence stops."""
    with tempfile.TemporaryDirectory() as folder:
        save_tiny_model(folder)
        engine = TransformersEngine(folder, device="cpu", batch_size=8)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    engine._model = transformers.AutoModelForCausalLM.from_config(config).eval()
    engine.vocab_size, engine.max_model_len = VOCAB, 2048
    engine._eos_ids = torch.tensor([VOCAB])
    return engine


def sampled(
    engine: TransformersEngine, requests: list[SampleRequest], n_tokens: int
) -> tuple[float, list[list[int]]]:
    """CPU seconds and the tokens."""
    params = SamplingParams(max_tokens=n_tokens, temperature=0)
    began = time.process_time()
    samples = list(engine.sample(requests, params, 0))
    return time.process_time() - began, [s.response_token_ids.tolist() for s in samples]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=64, help="tokens")
    parser.add_argument("--response", type=int, default=96, help="tokens")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    engine, length = made_engine(), args.prompt + args.response
    requests = [
        SampleRequest(f"r{i}", [5 + (i // 4 * 7 + j) % 90 for j in range(args.prompt)], i)
        for i in range(8)
    ]

    def static(config: object) -> object:
        return transformers.StaticCache(config=config, max_cache_len=length)

    sampled(engine, requests, 4)
    ratios = []
    for _ in range(args.rounds):
        dynamic_s, expected = sampled(engine, requests, args.response)
        with mock.patch.object(transformers, "DynamicCache", static):
            static_s, tokens = sampled(engine, requests, args.response)
        assert tokens == expected
        ratios.append(static_s / dynamic_s)
        print(f"dynamic {dynamic_s:.2f} s, static {static_s:.2f} s: {ratios[-1]:.2f}")
    print(f"static / dynamic: {median(ratios):.2f}")


if __name__ == "__main__":
    main()
