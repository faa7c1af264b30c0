"""Models whose outputs go past their tokenizer, and configs that do not fit their weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from s2d_store.engines.base import SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.transformers_engine import TransformersEngine
from s2d_store.errors import EngineError
from tests.support.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TransformersEngine:
    """100 tokens and 50 outputs of padding, which a draw would hit every third time."""
    folder = save_tiny_model(tmp_path_factory.mktemp("m") / "padded", seed=3, padding=50)
    return TransformersEngine(str(folder))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_no_draw_is_padding(engine: TransformersEngine, temperature: float, top_p: float) -> None:
    requests = [SampleRequest(str(i), [4, 5, 6], i) for i in range(16)]
    params = SamplingParams(temperature, top_p, 0, 12)
    drawn = np.concatenate([s.response_token_ids for s in engine.sample(requests, params, 0)])
    assert drawn.max() < 100 and (temperature == 0 or len(set(drawn.tolist())) > 20)


def test_scores_keep_no_padding_and_are_of_the_whole_output(engine: TransformersEngine) -> None:
    assert engine.vocab_size == 150
    request = ScoreRequest("r", [4, 5, 6], np.array([7, 8, 9], np.int32))
    ((_, topk),) = engine.score([request], 100)
    assert topk.token_ids.max() == 99
    assert (np.exp(topk.logprobs).sum(axis=1) < 0.99).all()
    with pytest.raises(EngineError, match="top k of 101 cannot be kept"):
        engine.score([request], 101)


def test_a_config_that_does_not_fit_the_weights_is_one_error(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(EngineError, match="no causal language model can be loaded"):
        TransformersEngine(str(folder))
