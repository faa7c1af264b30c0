"""Engines by name: what each can do and how it is opened, in one row.

Other packages register an `EngineEntry` under the entry-point group `s2d.engines`;
docs/extending.md shows one. The libraries behind an engine are imported when it is opened, and not
before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from s2d_store import plugins
from s2d_store.engines.base import Capabilities, Engine
from s2d_store.errors import EngineError, InputError, did_you_mean

GROUP = "s2d.engines"


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is opened.

    Attributes:
        top_logprobs: the largest K that will be asked for; vLLM must know it when it starts.
        max_model_len: most tokens of prompt and response together; None takes the model's own.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; transformers only.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        batch_size: rollouts decoded together by transformers; vLLM batches by itself.
        prefix_caching: compute what prompts share once (vLLM); such an engine cannot score.
        engine_args: further arguments of the engine's own: any of vLLM's, or `max_batch_tokens`.
        url: endpoints of engine server: URLs, comma-separated, or a file of them.
        workers: several engines that share the work: N processes, `ray` or `ray:N`; empty: one.
    """

    top_logprobs: int = 0
    max_model_len: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 32
    prefix_caching: bool = False
    engine_args: Mapping[str, object] | None = None
    url: str = ""
    workers: str = ""


class Open(Protocol):
    """Loads the model at a location into an engine."""

    def __call__(self, location: str, settings: EngineSettings, /) -> Engine:
        """Open it; `location` is a folder with a saved model and tokenizer, or a hub id. Of a
        served policy it is that of the tokenizer alone, or empty.

        Raises:
            InputError: an engine argument that it does not take.
            EngineError: the model cannot be loaded.
        """
        ...


class Check(Protocol):
    """Looks at the machine, whatever the model."""

    def __call__(self, device: str, dtype: str, /) -> None:
        """Refuse what cannot be opened here.

        Raises:
            InputError: a device or dtype that is unknown.
            EngineError: a library or device that is not there.
        """
        ...


@dataclass(frozen=True)
class EngineEntry:
    """An engine, as `--engine` and recipes know it.

    Attributes:
        name: what it is called by; its `Engine.name`.
        capabilities: what it can do, known before it is opened.
        open: opens it.
        check: refuses a machine, device or dtype; may be called without `open`.
    """

    name: str
    capabilities: Capabilities
    open: Open
    check: Check


def _open_transformers(location: str, settings: EngineSettings) -> Engine:
    from s2d_store.engines.transformers_engine import DEFAULT_BATCH_TOKENS, TransformersEngine

    extra = dict(settings.engine_args or {})
    batch_tokens = extra.pop("max_batch_tokens", DEFAULT_BATCH_TOKENS)
    if extra or not isinstance(batch_tokens, int) or batch_tokens < 1:
        raise InputError(
            f"engine arguments {dict(settings.engine_args or {})!r} are not valid for transformers",
            why="it takes max_batch_tokens=N only, with N of 1 or more",
            fix="remove the others, or use --engine vllm",
        )
    return TransformersEngine(
        location,
        device=settings.device,
        dtype=settings.dtype,
        batch_size=settings.batch_size,
        max_batch_tokens=batch_tokens,
        max_model_len=settings.max_model_len,
    )


def _check_transformers(device: str, dtype: str) -> None:
    _require("transformers", "torch", "transformers", extra="train")
    from s2d_store.engines import transformers_engine

    transformers_engine.check_engine_available(device, dtype)


def _open_vllm(location: str, settings: EngineSettings) -> Engine:
    # Read when vLLM is imported: no pages of start-up log, no message to its makers.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from s2d_store.engines.vllm_engine import VllmEngine

    caching = {"enable_prefix_caching": settings.prefix_caching}
    return VllmEngine(
        location,
        max_logprobs=settings.top_logprobs,
        max_model_len=settings.max_model_len,
        dtype=settings.dtype,
        seed=0,
        engine_args={**caching, **(settings.engine_args or {})},
    )


def _check_vllm(device: str, _: str) -> None:
    _require("vllm", "vllm", extra="vllm")
    if device != "auto":
        raise InputError(
            f"device {device!r} cannot be chosen for vllm",
            why="vLLM runs on the device it was built for",
            fix="leave --device out; choose GPUs with CUDA_VISIBLE_DEVICES",
        )


def _open_server(location: str, settings: EngineSettings) -> Engine:
    from s2d_store.engines.server_engine import ServerEngine

    return ServerEngine(
        location,
        settings.url,
        top_logprobs=settings.top_logprobs,
        max_model_len=settings.max_model_len,
        engine_args=settings.engine_args or {},
    )


def _check_server(device: str, dtype: str) -> None:
    for option, value in (("device", device), ("dtype", dtype)):
        if value != "auto":
            raise InputError(
                f"{option} {value!r} cannot be chosen for server",
                "whoever started the server chose it",
                f"leave --{option} out",
            )


def _require(engine: str, *modules: str, extra: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise EngineError(
            f"engine {engine!r} needs {' and '.join(missing)}, not installed here",
            why="s2d keeps the heavy libraries optional",
            fix=f'pip install "s2d[{extra}]"',
        )


BUILT_IN = {
    entry.name: entry
    for entry in (
        EngineEntry(
            "transformers",
            Capabilities(scores_given_ids=True),
            _open_transformers,
            _check_transformers,
        ),
        EngineEntry("vllm", Capabilities(scores_given_ids=False), _open_vllm, _check_vllm),
        # What the servers behind it can do is probed when it is opened.
        EngineEntry(
            "server",
            Capabilities(scores_given_ids=True, served=True),
            _open_server,
            _check_server,
        ),
    )
}


def names() -> list[str]:
    """Every engine that is registered, built-in ones first; imports none of them."""
    return list(dict.fromkeys((*BUILT_IN, *sorted(plugins.registered(GROUP)))))


def find(name: str) -> EngineEntry:
    """An engine by name; a plug-in cannot take the name of a built-in one.

    Raises:
        NotFoundError: its package cannot be imported.
        InputError: there is none of that name, or what is registered is no `EngineEntry`.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in plugins.registered(GROUP):
        return plugins.load_row(GROUP, name, EngineEntry)
    raise InputError(
        f"engine {name!r} is unknown{did_you_mean(name, names())}",
        why=f"engines: {', '.join(names())}",
        fix=f"pass --engine {' or --engine '.join(BUILT_IN)}",
    )


def open_engine(name: str, location: str, **settings: Any) -> Engine:
    """Load a model into an engine. The caller closes it.

    Args:
        name: of the engine.
        location: a folder with a saved model and tokenizer, or a hub id.
        settings: how it is opened: the fields of `EngineSettings`.

    Raises:
        InputError: an unknown engine or engine argument.
        EngineError: the engine's library is not installed, or the model cannot be loaded.
    """
    entry, given = find(name), EngineSettings(**settings)
    if given.workers:
        from s2d_store.engines.workers_engine import open_workers

        return open_workers(name, location, given)
    entry.check(given.device, given.dtype)
    return entry.open(location, given)


def check_engine_available(name: str, device: str = "auto", dtype: str = "auto") -> None:
    """Refuse an engine that cannot be opened on this machine, whatever the model.

    Raises:
        InputError: an unknown engine, device or dtype, or a device that it cannot be given.
        EngineError: the engine's library is not installed, or the device is not there.
    """
    find(name).check(device, dtype)


def require_capable(name: str, *, k: int = 0, given_ids: bool = False) -> None:
    """Refuse what an engine cannot do on any machine, before it is opened.

    Args:
        name: of the engine.
        k: entries of top-k to keep.
        given_ids: whether it is to score at ids that another policy ranked highest.

    Raises:
        InputError: an unknown engine, more entries than it can keep, or ids that it cannot score.
    """
    able = find(name).capabilities
    if given_ids and not able.scores_given_ids:
        others = [other for other, row in BUILT_IN.items() if row.capabilities.scores_given_ids]
        raise InputError(
            f"engine {name} cannot score the ids that the sampling policy ranked highest",
            f"{name} scores its own top k alone",
            f"--engine {others[0]}, or --support own with --top-logprobs K",
        )
    if able.max_logprobs is not None and k > able.max_logprobs:
        raise InputError(
            f"engine {name} cannot keep a top k of {k}",
            f"it returns at most {able.max_logprobs} logprobs per token",
            f"--top-logprobs {able.max_logprobs}, or another --engine",
        )
