"""What tests ask of an engine: a few prompts to sample, and samples to score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from s2d_store.engines.base import Sample, SampleRequest, ScoreRequest

PROMPTS = ("1+2=", "what is 7 times 8?", "count: 1 2 3 4", "x")


def requests(engine: Any, n: int = 8) -> list[SampleRequest]:
    """Rollouts r0, r1, ... of the prompts in turn, each with its own seed."""
    prompts = [engine.tokenizer(text)["input_ids"] for text in PROMPTS]
    return [SampleRequest(f"r{i}", prompts[i % len(prompts)], 100 + i) for i in range(n)]


def scores(asked: Iterable[SampleRequest], samples: Iterable[Sample]) -> list[ScoreRequest]:
    """Samples, which must have tokens, as requests to score them."""
    prompts = {r.rollout_id: r.prompt_token_ids for r in asked}
    found = []
    for sample in samples:
        assert sample.response_token_ids is not None
        prompt = prompts[sample.rollout_id]
        found.append(ScoreRequest(sample.rollout_id, prompt, sample.response_token_ids))
    return found
