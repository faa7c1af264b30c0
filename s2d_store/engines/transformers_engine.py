"""Sample and score with transformers alone: any causal model, on a CPU or one GPU.

Dimensions: B rollouts of a batch, U distinct prompts of a batch, P prompt tokens (padded), L prompt
and response tokens (padded), T response tokens, N response tokens of a batch one after another, K
top-k entries, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from s2d_store.encoding.topk import IntArray, TopK
from s2d_store.engines.base import Sample, SampleRequest, SamplingParams, ScoreRequest
from s2d_store.engines.chunk_limits import block_rows, score_windows
from s2d_store.engines.output_checks import (
    check_k,
    check_lengths,
    check_sampling,
    check_token_ids,
)
from s2d_store.engines.output_head import OutputHead
from s2d_store.engines.torch_sampling import (
    StepBuffers,
    draw_tokens,
    length_batches,
    rollout_uniforms,
    split_topk,
)
from s2d_store.errors import EngineError, InputError, load_failure_hint
from s2d_store.numerics import predicting_positions
from s2d_store.policies.tokenizer import load_tokenizer, read_vocabulary

DEFAULT_BATCH_TOKENS = 16_384
# Score requests are sorted by length inside windows of at most so many rows, and of a top k that
# fits (`score_windows`), so a stream of any size does.
SCORE_WINDOW = 512
# Selecting rows copies the whole cache: only worth it when a good part of the batch has ended.
DROP_FRACTION = 0.25

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersEngine:
    """An `Engine` over `AutoModelForCausalLM`.

    On a CPU the same requests in the same order give the same tokens, run after run. Scoring goes
    over the vocabulary in blocks where the output head is one matrix product (`output_head.py`).

    Args:
        location: a folder with a saved model and tokenizer (read without network), or a hub id.
        device: `auto` (CUDA when there is one), `cpu`, `cuda`, `cuda:N`.
        dtype: `auto` (bfloat16 on CUDA, else float32), or a name in `DTYPES`.
        batch_size: rollouts decoded together, in consecutive blocks of the requests' order; fewer
            where many tokens times a large top k would not fit (`block_rows`).
        max_batch_tokens: most padded tokens of a scoring batch; a longer sequence goes alone.
        max_model_len: most tokens of prompt and response together; None takes the model's own.

    Raises:
        EngineError: the model cannot be loaded.
        InputError: an argument out of range.
    """

    name = "transformers"
    version: str = transformers.__version__

    def __init__(
        self,
        location: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
        max_batch_tokens: int = DEFAULT_BATCH_TOKENS,
        max_model_len: int | None = None,
    ) -> None:
        if batch_size < 1 or max_batch_tokens < 1:
            raise InputError(
                f"batch_size is {batch_size} and max_batch_tokens is {max_batch_tokens}",
                why="both must be 1 or more",
                fix="change --batch-size, or the engine argument max_batch_tokens",
            )
        self._device = _device(device)
        self._batch_size, self._max_batch_tokens = batch_size, max_batch_tokens
        self.tokenizer = load_tokenizer(location)
        self._model = _load_model(location, self._device, _dtype(dtype, self._device))
        self.vocab_size = int(self._model.get_output_embeddings().weight.shape[0])
        # Outputs above the tokenizer's ids pad the matrix: nobody can read such a token.
        self._n_tokens = min(self.vocab_size, len(read_vocabulary(self.tokenizer)))
        self.max_model_len = _context(self._model, max_model_len)
        eos_ids = sorted(_eos_ids(self._model, self.tokenizer))
        self._eos_ids = torch.tensor(eos_ids, dtype=torch.int64, device=self._device)
        self._head: OutputHead | None = None

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, top_logprobs: int
    ) -> Iterator[Sample]:
        """Yield one `Sample` a request, block by block, in the requests' order.

        Args:
            requests: what to draw; blocks of `batch_size` start at multiples of it, so a run that
                resumes at a block boundary repeats the rest exactly.
            params: how to draw. Logprobs are of the raw distribution all the same.
            top_logprobs: K to keep at every position, 0 = none.

        Raises:
            InputError: bad parameters, or a prompt that leaves no room for `max_tokens`.
            EngineError: K above the vocabulary, or ids outside it.
        """
        check_sampling(params)
        check_k(top_logprobs, self._n_tokens)
        check_lengths(
            ((r.rollout_id, len(r.prompt_token_ids), params.max_tokens) for r in requests),
            self.max_model_len,
        )
        for request in requests:
            check_token_ids(request.rollout_id, request.prompt_token_ids, self.vocab_size)
        return self._sample_blocks(requests, params, top_logprobs)

    def score(self, requests: Iterable[ScoreRequest], k: int) -> Iterator[tuple[str, TopK]]:
        """Yield `(rollout_id, TopK)` a request by teacher forcing, in any order.

        Args:
            requests: a stream; a window of it is held at a time, see `score_windows`.
            k: K of the scorer's own support, 0 for sampled logprobs alone; ignored where a request
                gives its own support.

        Raises:
            InputError: a sequence longer than the model's context, or an empty prompt.
            EngineError: K above the vocabulary, or ids outside it.
        """
        check_k(k, self._n_tokens)
        return self._score_windows(iter(requests), k)

    def reload(self, location: str) -> bool:
        """False: opening another one costs no more than reading its weights."""
        return False

    def close(self) -> None:
        """Free the model; the engine is unusable afterwards."""
        self._model, self._head = None, None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _sample_blocks(
        self, requests: Sequence[SampleRequest], params: SamplingParams, k: int
    ) -> Iterator[Sample]:
        size = block_rows(self._batch_size, params.max_tokens, k)
        for start in range(0, len(requests), size):
            block = requests[start : start + size]
            with _memory_advice("lower --batch-size or --max-tokens"):
                buffers, lengths_B, stopped_B = self._decode(block, params, k)
            tokens_N, topk = buffers.to_host(lengths_B)
            parts = split_topk(topk, lengths_B.tolist())
            for request, stopped, (rows, part) in zip(block, stopped_B, parts, strict=True):
                yield Sample(
                    rollout_id=request.rollout_id,
                    response_token_ids=tokens_N[rows],
                    response_logprobs=part.sampled_logprobs,
                    finish_reason="stop" if stopped else "length",
                    topk=part if k else None,
                )

    @torch.inference_mode()
    def _decode(
        self, block: Sequence[SampleRequest], params: SamplingParams, k: int
    ) -> tuple[StepBuffers, NDArray[np.int64], NDArray[np.bool_]]:
        """Decode one block. Returns what was drawn, tokens of each and whether it met an eos."""
        n_rollouts, max_tokens = len(block), params.max_tokens
        logits_BV, cache, mask_BL, position_B = self._prefill(block, max_tokens)
        prompt_width = mask_BL.shape[1] - max_tokens
        uniforms_BT = self._tensor(rollout_uniforms([r.seed for r in block], max_tokens))
        buffers = StepBuffers(n_rollouts, max_tokens, k, self._n_tokens, self._device)
        lengths_B = np.full(n_rollouts, max_tokens, dtype=np.int64)
        stopped_B = np.zeros(n_rollouts, dtype=bool)
        # Which rollout each row of the shrinking batch is, on the host and on the device.
        rollout_B, rows_B = np.arange(n_rollouts), self._tensor(np.arange(n_rollouts))

        for t in range(max_tokens):
            tokens_B = draw_tokens(logits_BV[:, : self._n_tokens], params, uniforms_BT[rows_B, t])
            buffers.record(rows_B, t, tokens_B, logits_BV)
            ended_B = rollout_B[torch.isin(tokens_B, self._eos_ids).cpu().numpy()]
            ended_B = ended_B[~stopped_B[ended_B]]
            lengths_B[ended_B], stopped_B[ended_B] = t + 1, True
            if t + 1 == max_tokens or stopped_B.all():
                break
            ended = stopped_B[rollout_B]
            if ended.mean() >= DROP_FRACTION:
                keep_B = self._tensor(np.flatnonzero(~ended))
                cache.reorder_cache(keep_B)
                tokens_B, position_B, mask_BL = (
                    tokens_B[keep_B],
                    position_B[keep_B],
                    mask_BL[keep_B],
                )
                rollout_B, rows_B = rollout_B[~ended], rows_B[keep_B]
            output = self._model(
                input_ids=tokens_B.unsqueeze(1),
                attention_mask=mask_BL[:, : prompt_width + t + 1],
                position_ids=position_B.unsqueeze(1),
                past_key_values=cache,
                use_cache=True,
            )
            logits_BV, position_B = output.logits[:, -1].float(), position_B + 1
        return buffers, lengths_B, stopped_B

    def _prefill(
        self, block: Sequence[SampleRequest], max_tokens: int
    ) -> tuple[Tensor, Any, Tensor, Tensor]:
        """Run each distinct prompt once, left padded, then give every rollout its copy.

        Returns:
            logits float32 (B, V) of the first response token, the cache of B rows, the attention
            mask int64 (B, P + max_tokens) and the position int64 (B,) of the first response token.
        """
        row_of: dict[tuple[int, ...], int] = {}
        owner_B = [row_of.setdefault(tuple(r.prompt_token_ids), len(row_of)) for r in block]
        lengths_U = np.array([len(prompt) for prompt in row_of])
        width = int(lengths_U.max())
        ids_UP = np.zeros((len(row_of), width), dtype=np.int64)
        mask_UL = np.ones((len(row_of), width + max_tokens), dtype=np.int64)
        for prompt, row in row_of.items():
            ids_UP[row, width - len(prompt) :] = prompt
            mask_UL[row, : width - len(prompt)] = 0
        position_UP = np.maximum(np.arange(width) - (width - lengths_U)[:, None], 0)
        mask = self._tensor(mask_UL)
        output = self._model(
            input_ids=self._tensor(ids_UP),
            attention_mask=mask[:, :width],
            position_ids=self._tensor(position_UP),
            past_key_values=transformers.DynamicCache(config=self._model.config),
            use_cache=True,
            logits_to_keep=1,
        )
        owner, cache = self._tensor(owner_B), output.past_key_values
        cache.reorder_cache(owner)
        return output.logits[owner, -1].float(), cache, mask[owner], self._tensor(lengths_U)[owner]

    def _score_windows(
        self, requests: Iterator[ScoreRequest], k: int
    ) -> Iterator[tuple[str, TopK]]:
        for window in score_windows(requests, SCORE_WINDOW, k):
            self._check_score_requests(window)
            for batch in length_batches(window, self._max_batch_tokens):
                with _memory_advice("lower the engine argument max_batch_tokens"):
                    topk = self._score_batch(batch, k)
                counts = [len(request.response_token_ids) for request in batch]
                for request, (_, part) in zip(batch, split_topk(topk, counts), strict=True):
                    yield request.rollout_id, part

    def _check_score_requests(self, window: Sequence[ScoreRequest]) -> None:
        check_lengths(
            ((r.rollout_id, len(r.prompt_token_ids), len(r.response_token_ids)) for r in window),
            self.max_model_len,
        )
        for request in window:
            check_token_ids(request.rollout_id, request.prompt_token_ids, self.vocab_size)
            check_token_ids(request.rollout_id, request.response_token_ids, self.vocab_size)
            if request.support is None:
                continue
            check_token_ids(request.rollout_id, request.support, self.vocab_size)
            if request.support.ndim != 2 or len(request.support) != len(request.response_token_ids):
                raise EngineError(
                    f"rollout {request.rollout_id} has a support of shape {request.support.shape}",
                    why=f"{len(request.response_token_ids)} response tokens need one row each",
                    fix="take the support from the sampling policy's own stored top k",
                )

    @torch.inference_mode()
    def _score_batch(self, batch: Sequence[ScoreRequest], k: int) -> TopK:
        """Top-k at all response positions of a batch: (N, K), (N, K) and (N,)."""
        prompts = [len(request.prompt_token_ids) for request in batch]
        responses = [len(request.response_token_ids) for request in batch]
        ids_BL = np.zeros((len(batch), max(map(sum, zip(prompts, responses, strict=True)))), int)
        for row, request in enumerate(batch):
            ids_BL[row, : prompts[row]] = request.prompt_token_ids
            ids_BL[row, prompts[row] :][: responses[row]] = request.response_token_ids
        # Padding stands right of everything real, so causal attention never sees it: no mask.
        hidden_BLH = self._model.base_model(
            input_ids=self._tensor(ids_BL), use_cache=False
        ).last_hidden_state
        starts_B = np.arange(len(batch)) * ids_BL.shape[1]
        index_N = predicting_positions(starts_B, np.array(prompts), np.array(responses))
        hidden_NH = hidden_BLH.flatten(0, 1)[self._tensor(index_N)]
        tokens_N = self._tensor(_responses(batch))
        supports = [request.support for request in batch if request.support is not None]
        support_NK = self._tensor(np.concatenate(supports)) if supports else None
        if self._head is None:
            self._head = OutputHead(self._model)
        support = k if support_NK is None else support_NK
        columns = self._head.topk(hidden_NH, tokens_N, support, self._n_tokens)
        return TopK(*(column.cpu().numpy() for column in columns))

    def _tensor(self, values: ArrayLike) -> Tensor:
        """To the device; integers of any width become int64, as indexing needs."""
        array = np.asarray(values)
        if array.dtype.kind in "iu":
            array = array.astype(np.int64)
        return torch.from_numpy(array).to(self._device)


@contextmanager
def _memory_advice(fix: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise EngineError("the device is out of memory", why=reason, fix=fix) from error


def _load_model(location: str, device: torch.device, dtype: torch.dtype) -> Any:
    transformers.logging.disable_progress_bar()
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            location,
            dtype=dtype,
            local_files_only=Path(location).is_dir(),
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"no causal language model can be loaded from {location}",
            *load_failure_hint(
                error,
                " ".join(str(error).split()),
                "give a folder written by save_pretrained, or a hub id that can be reached",
            ),
        ) from error
    if info["missing_keys"]:
        raise EngineError(
            f"the weights in {location} are incomplete",
            why=f"missing: {', '.join(sorted(info['missing_keys'])[:5])}; they would be random",
            fix="save the whole model again with save_pretrained",
        )
    return model.to(device).eval()


def check_engine_available(device: str, dtype: str) -> None:
    """Refuse a device or dtype that this machine does not have.

    Raises:
        InputError: there is none of that name.
        EngineError: PyTorch does not see the device.
    """
    _dtype(dtype, _device(device))


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise InputError(
            f"device {device!r} is unknown",
            why="devices: auto, cpu, cuda, cuda:N",
            fix="pass --device auto",
        )
    if kind == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            f"device {device!r} is not there",
            why="PyTorch sees no CUDA device",
            fix="pass --device cpu, or install a CUDA build of PyTorch",
        )
    return torch.device(device)


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise InputError(
            f"dtype {dtype!r} is unknown",
            why=f"dtypes: auto, {', '.join(DTYPES)}",
            fix="pass --dtype auto",
        )
    return DTYPES[dtype]


def _context(model: Any, requested: int | None) -> int:
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limit = int(own) if own else 2**31 - 1
    if requested is not None and not 1 <= requested <= limit:
        raise InputError(
            f"max_model_len is {requested}",
            why=f"the model was made for 1 to {limit} tokens",
            fix=f"pass --max-model-len {limit} or less",
        )
    return requested or limit


def _eos_ids(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return {int(eos) for eos in [*ids, tokenizer.eos_token_id] if eos is not None}


def _responses(batch: Sequence[ScoreRequest]) -> IntArray:
    return np.concatenate([np.asarray(r.response_token_ids, dtype=np.int32) for r in batch])
