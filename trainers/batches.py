"""Cut the rows of one optimizer update into micro-batches of tensors.

Dimensions: S sequences, N = B * L token slots, R trained response tokens, K top-k entries.
Trained are the response tokens that `response_mask` keeps; without the column, or where it is null,
all of them. The others are context: seen by the model, in no loss, no count and no mean.

Two layouts, one type. `packed`: one row [1, N] of sequences end to end, positions restarting at
each. `padded`: right-padded [B, L]; causal attention never looks right, so no mask is needed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2d_store.datasets.read import ListColumn, UpdateRows
from s2d_store.errors import DatasetError
from s2d_store.numerics import Int64, predicting_positions, ranges
from trainers.packing import Layout, row_groups

PAD_ID = -1
# Dataset columns with one logprob per response token: the sampling policy's at temperature 1 and
# over the whole vocabulary; what the token was really drawn with; the scoring teacher's; the
# reference policy's; the trainer's own before its first update.
POLICY_LOGPROBS, SAMPLER_LOGPROBS = "response_logprobs", "sampler_logprobs"
TEACHER_LOGPROBS, REFERENCE_LOGPROBS = "sampled_logprobs", "ref_logprobs"
OLD_LOGPROBS = "old_logprobs"
# Whether the policy sampled each response token, list<bool>; null where it sampled all of them.
RESPONSE_MASK = "response_mask"
_OF_TOKENS = (
    POLICY_LOGPROBS,
    SAMPLER_LOGPROBS,
    TEACHER_LOGPROBS,
    REFERENCE_LOGPROBS,
    OLD_LOGPROBS,
    RESPONSE_MASK,
)


@dataclass(frozen=True)
class MicroBatch:
    """Sequences for one forward and backward pass.

    Attributes:
        input_ids: int64 [B, L]; slots of padding hold 0.
        position_ids: int64 [B, L], from 0 in each sequence.
        predict_index: int64 [R], slot in the flattened [B * L] whose hidden state predicts each
            trained token; see `s2d_store.numerics`.
        targets: int64 [R], the trained tokens, sequence after sequence.
        sequence_ids: int64 [R], which of the S sequences each trained token belongs to.
        cu_seqlens: int32 [S + 1], sequence s spans `cu_seqlens[s]:cu_seqlens[s + 1]` of the tokens
            without padding.
        rows: int64 [S], each sequence's row within its update.
        topk_ids: int32 [R, K], -1 where a token has fewer than K entries; K = 0 without a teacher.
        topk_logprobs: float32 [R, K], -inf where a token has fewer than K entries.
        policy_logprobs: float32 [R], the sampler's logprob of each trained token: what it was drawn
            with where that is read, else the policy's own; [0] where none is read, as those below.
        teacher_logprobs: float32 [R], the scorer's.
        reference_logprobs: float32 [R], the reference policy's.
        old_logprobs: float32 [R], the trainer's before its first update.
        advantages: float32 [R], the row's advantage at each of its tokens.
        max_length: tokens of the longest sequence.
    """

    input_ids: Tensor
    position_ids: Tensor
    predict_index: Tensor
    targets: Tensor
    sequence_ids: Tensor
    cu_seqlens: Tensor
    rows: Tensor
    topk_ids: Tensor
    topk_logprobs: Tensor
    policy_logprobs: Tensor
    teacher_logprobs: Tensor
    reference_logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    max_length: int

    def to(self, device: torch.device) -> MicroBatch:
        """Copy every tensor to the device; asynchronous from pinned memory to CUDA."""
        if device.type == "cpu":
            return self
        return self._map(lambda t: t.to(device, non_blocking=True))

    def pin(self, device: torch.device) -> MicroBatch:
        """Copy every tensor to page-locked memory if the device is CUDA's; else change nothing."""
        if device.type != "cuda":
            return self
        # A new thread's current device is the first: pinning would start a context there.
        with torch.cuda.device(device):
            return self._map(lambda t: t.pin_memory())

    def _map(self, function: Any) -> MicroBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "max_length"}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


def micro_batches(
    rows: UpdateRows,
    max_tokens: int,
    layout: Layout,
    selected: Sequence[int] | None = None,
    check: Callable[[UpdateRows], None] | None = None,
) -> Iterator[MicroBatch]:
    """Yield micro-batches of at most `max_tokens` each, as few as `packing` finds.

    Only these rows' heavy columns are read, one micro-batch ahead. A sequence longer than
    `max_tokens` gets a micro-batch of its own.

    Args:
        rows: an update with the list columns `prompt_token_ids` and `response_token_ids`; with a
            teacher's also `k` (scalar), `topk_token_ids` and `topk_logprobs`; and, where wanted,
            `response_mask`, `advantage` (scalar) and the columns of logprobs named above.
        max_tokens: most token slots N of a micro-batch.
        layout: `packed`, or `padded`: sequences by falling length, so that padding is little.
        selected: rows to use; None uses all.
        check: sees the rows of each micro-batch before it is built.

    Raises:
        DatasetError: a row with an empty prompt, or lists whose lengths disagree.
    """
    check_lengths(rows)
    choices = row_groups(sequence_lengths(rows), max_tokens, layout, selected)
    for chosen, part in rows.parts(choices):
        check_lengths(part, chosen)
        if check is not None:
            check(part)
        batch = _build(part, np.arange(len(chosen)), layout)
        yield replace(batch, rows=torch.from_numpy(chosen.copy()))


def sequence_lengths(rows: UpdateRows) -> Int64:
    """Prompt and response tokens of each row, int64 (rows,)."""
    return rows.lengths("prompt_token_ids") + rows.lengths("response_token_ids")


def trained_lengths(rows: UpdateRows) -> Int64:
    """Trained response tokens of each row, int64 (rows,)."""
    responses = rows.lengths("response_token_ids")
    if RESPONSE_MASK not in rows.lists:
        return responses
    mask, offsets = rows.lists[RESPONSE_MASK]
    before = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
    return np.where(np.diff(offsets) > 0, before[offsets[1:]] - before[offsets[:-1]], responses)


def assign_rows_to_ranks(lengths: Int64, n_ranks: int) -> list[list[int]]:
    """Share rows among ranks: longest first, each to the rank with the fewest tokens so far.

    Deterministic, so every process computes the same shares; each share is in row order.
    """
    heap = [(0, rank) for rank in range(n_ranks)]
    shares: list[list[int]] = [[] for _ in range(n_ranks)]
    for row in np.argsort(-lengths, kind="stable").tolist():
        tokens, rank = heapq.heappop(heap)
        shares[rank].append(row)
        heapq.heappush(heap, (tokens + int(lengths[row]), rank))
    return [sorted(share) for share in shares]


def check_lengths(rows: UpdateRows, numbers: Int64 | None = None) -> None:
    """Refuse rows whose lists do not fit together, as far as they are read.

    Args:
        rows: an update's, or some of them.
        numbers: int64 (R,), their numbers within the update.

    Raises:
        DatasetError: naming the first such row.
    """
    responses = rows.lengths("response_token_ids")
    wrong = rows.lengths("prompt_token_ids") < 1
    why = "its prompt is empty, so nothing predicts its first response token"
    read = set(rows.lists) - set(rows.waiting)
    if not wrong.any() and "topk_token_ids" in read:
        entries = responses * rows.scalars["k"]
        wrong = (rows.lengths("topk_token_ids") != entries) | (
            rows.lengths("topk_logprobs") != entries
        )
        why = "its top-k lists do not hold k entries per response token"
    for name in _OF_TOKENS:
        if not wrong.any() and name in read:
            wrong = rows.lengths(name) != responses
            if name == RESPONSE_MASK:
                wrong &= rows.lengths(name) > 0
            why = f"its {name} is not one per response token"
    if wrong.any():
        row = int(wrong.argmax())
        raise DatasetError(
            f"row {row if numbers is None else numbers[row]} of update {rows.update} cannot be "
            "trained on",
            why,
            "s2d dataset verify NAME; rebuild the dataset",
        )


def _build(rows: UpdateRows, chosen: Int64, layout: Layout) -> MicroBatch:
    prompts, prompt_lengths = _take(rows.lists["prompt_token_ids"], chosen)
    responses, response_lengths = _take(rows.lists["response_token_ids"], chosen)
    lengths = prompt_lengths + response_lengths
    cu_seqlens = np.zeros(len(chosen) + 1, dtype=np.int64)
    np.cumsum(lengths, out=cu_seqlens[1:])
    longest = int(lengths.max())
    if layout == "packed":
        starts, shape = cu_seqlens[:-1], (1, int(cu_seqlens[-1]))
        position_ids = ranges(np.zeros_like(lengths), lengths)
    else:
        starts, shape = np.arange(len(chosen)) * longest, (len(chosen), longest)
        position_ids = np.tile(np.arange(longest), len(chosen))
    input_ids = np.zeros(shape[0] * shape[1], dtype=np.int64)
    input_ids[ranges(starts, prompt_lengths)] = prompts
    input_ids[ranges(starts + prompt_lengths, response_lengths)] = responses
    predict_index = predicting_positions(starts, prompt_lengths, response_lengths)
    sequence_ids = np.repeat(np.arange(len(chosen)), response_lengths)
    topk_ids, topk_logprobs = _topk(rows, chosen, response_lengths)
    sampler = SAMPLER_LOGPROBS if SAMPLER_LOGPROBS in rows.lists else POLICY_LOGPROBS
    keep = _kept(rows, chosen, response_lengths)

    def trained(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values if keep is None or not len(values) else values[keep])

    return MicroBatch(
        input_ids=torch.from_numpy(input_ids).view(shape),
        position_ids=torch.from_numpy(position_ids).view(shape),
        predict_index=trained(predict_index),
        targets=trained(responses.astype(np.int64)),
        sequence_ids=trained(sequence_ids),
        cu_seqlens=torch.from_numpy(cu_seqlens.astype(np.int32)),
        rows=torch.from_numpy(chosen.copy()),
        topk_ids=trained(topk_ids),
        topk_logprobs=trained(topk_logprobs),
        policy_logprobs=trained(_of_tokens(rows, sampler, chosen)),
        teacher_logprobs=trained(_of_tokens(rows, TEACHER_LOGPROBS, chosen)),
        reference_logprobs=trained(_of_tokens(rows, REFERENCE_LOGPROBS, chosen)),
        old_logprobs=trained(_of_tokens(rows, OLD_LOGPROBS, chosen)),
        advantages=trained(_advantages(rows, chosen, response_lengths)),
        max_length=longest,
    )


def _kept(rows: UpdateRows, chosen: Int64, response_lengths: Int64) -> NDArray[np.bool_] | None:
    """Which response tokens of the chosen rows are trained, bool; None: all of them."""
    if RESPONSE_MASK not in rows.lists:
        return None
    mask, lengths = _take(rows.lists[RESPONSE_MASK], chosen)
    if (lengths == response_lengths).all():
        return mask
    kept = np.ones(int(response_lengths.sum()), dtype=np.bool_)
    kept[np.repeat(lengths > 0, response_lengths)] = mask
    return kept


def _of_tokens(rows: UpdateRows, column: str, chosen: Int64) -> NDArray[np.float32]:
    """A float column with one value per response token, float32; (0,) where it is not read."""
    if column not in rows.lists:
        return np.empty(0, np.float32)
    return _take(rows.lists[column], chosen)[0].astype(np.float32, copy=False)


def _advantages(rows: UpdateRows, chosen: Int64, response_lengths: Int64) -> NDArray[np.float32]:
    """Each row's advantage at each of its response tokens, float32; (0,) where there is none."""
    if "advantage" not in rows.scalars:
        return np.empty(0, np.float32)
    return np.repeat(rows.scalars["advantage"][chosen].astype(np.float32), response_lengths)


def _topk(
    rows: UpdateRows, chosen: Int64, response_lengths: Int64
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Top-k of the chosen rows, (R, K) each; rows with a smaller k than the largest are padded."""
    n_tokens = int(response_lengths.sum())
    if "topk_token_ids" not in rows.lists:
        return np.empty((n_tokens, 0), np.int32), np.empty((n_tokens, 0), np.float32)
    ids, _ = _take(rows.lists["topk_token_ids"], chosen)
    logprobs, _ = _take(rows.lists["topk_logprobs"], chosen)
    k_of_row = rows.scalars["k"][chosen]
    k = int(k_of_row.max())
    if int(k_of_row.min()) == k:
        return ids.reshape(n_tokens, k), logprobs.reshape(n_tokens, k)
    present = np.arange(k) < np.repeat(k_of_row, response_lengths)[:, None]
    ids_RK = np.full((n_tokens, k), PAD_ID, dtype=np.int32)
    logprobs_RK = np.full((n_tokens, k), -np.inf, dtype=np.float32)
    ids_RK[present], logprobs_RK[present] = ids, logprobs
    return ids_RK, logprobs_RK


def _take(column: ListColumn, chosen: Int64) -> tuple[NDArray[Any], Int64]:
    """Values of the chosen rows end to end, always a copy that may be written to, and lengths."""
    values, offsets = column
    first, last = offsets[chosen], offsets[chosen + 1]
    if len(chosen) == len(offsets) - 1 and values.flags.writeable:
        return values, last - first  # read for this micro-batch alone
    if (first[1:] == last[:-1]).all():
        return values[first[0] : last[-1]].copy(), last - first
    parts = [values[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    return np.concatenate(parts), last - first
