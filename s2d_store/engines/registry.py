"""Open an engine by name; the libraries behind it are imported here and not before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from s2d_store.engines.base import Engine
from s2d_store.errors import EngineError, InputError

ENGINES = ("transformers", "vllm")


def open_engine(
    name: str,
    location: str,
    *,
    top_logprobs: int = 0,
    max_model_len: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 32,
    prefix_caching: bool = False,
    engine_args: Mapping[str, object] | None = None,
) -> Engine:
    """Load a model into an engine. The caller closes it.

    Args:
        name: `transformers` or `vllm`.
        location: a folder with a saved model and tokenizer, or a hub id.
        top_logprobs: the largest K that will be asked for; vLLM must know it when it starts.
        max_model_len: most tokens of prompt and response together; None takes the model's own.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; transformers only.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        batch_size: rollouts decoded together by transformers; vLLM batches by itself.
        prefix_caching: compute what prompts share once (vLLM); such an engine cannot score.
        engine_args: further arguments of the engine's own: any of vLLM's, or `max_batch_tokens`.

    Raises:
        InputError: an unknown engine or engine argument.
        EngineError: the engine's library is not installed, or the model cannot be loaded.
    """
    check_engine_available(name, device, dtype)
    extra = dict(engine_args or {})
    if name == "transformers":
        from s2d_store.engines.transformers_engine import DEFAULT_BATCH_TOKENS, TransformersEngine

        batch_tokens = extra.pop("max_batch_tokens", DEFAULT_BATCH_TOKENS)
        if extra or not isinstance(batch_tokens, int) or batch_tokens < 1:
            raise InputError(
                f"engine arguments {dict(engine_args or {})!r} are not valid for transformers",
                why="it takes max_batch_tokens=N only, with N of 1 or more",
                fix="remove the others, or use --engine vllm",
            )
        return TransformersEngine(
            location,
            device=device,
            dtype=dtype,
            batch_size=batch_size,
            max_batch_tokens=batch_tokens,
            max_model_len=max_model_len,
        )
    # Read when vLLM is imported: no pages of start-up log, no message to its makers.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from s2d_store.engines.vllm_engine import VllmEngine

    return VllmEngine(
        location,
        max_logprobs=top_logprobs,
        max_model_len=max_model_len,
        dtype=dtype,
        seed=0,
        engine_args={"enable_prefix_caching": prefix_caching, **extra},
    )


def check_engine_available(name: str, device: str = "auto", dtype: str = "auto") -> None:
    """Refuse an engine that cannot be opened on this machine, whatever the model.

    Raises:
        InputError: an unknown engine, device or dtype, or a device that vLLM cannot be given.
        EngineError: the engine's library is not installed, or PyTorch does not see the device.
    """
    if name == "transformers":
        _require("transformers", "torch", "transformers", extra="train")
        from s2d_store.engines import transformers_engine

        transformers_engine.check_engine_available(device, dtype)
    elif name == "vllm":
        _require("vllm", "vllm", extra="vllm")
        if device != "auto":
            raise InputError(
                f"device {device!r} cannot be chosen for vllm",
                why="vLLM runs on the device it was built for",
                fix="leave --device out; choose GPUs with CUDA_VISIBLE_DEVICES",
            )
    else:
        raise InputError(
            f"engine {name!r} is unknown",
            why=f"engines: {', '.join(ENGINES)}",
            fix=f"pass --engine {ENGINES[0]} or --engine {ENGINES[1]}",
        )


def _require(engine: str, *modules: str, extra: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise EngineError(
            f"engine {engine!r} needs {' and '.join(missing)}, not installed here",
            why="s2d keeps the heavy libraries optional",
            fix=f'pip install "s2d[{extra}]"',
        )
