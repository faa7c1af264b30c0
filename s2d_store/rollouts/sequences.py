"""Conversations as rows of table rollouts: one sequence of tokens as a model saw it.

Pure: no store, no tokenizer. Importers and engines that run several turns build their rows here.
T is the number of response tokens: all that follow the first sampled one, whoever wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2d_store.errors import InputError

FINISH_REASONS = ("stop", "length", "tool_calls", "aborted", "error")


@dataclass(frozen=True)
class Turn:
    """One message of a conversation and the tokens that the model saw for it.

    Attributes:
        role: system, user, assistant, tool, ...
        token_ids: its tokens in the order seen, those of the template around it included; None
            where only text is known, which then holds for every turn.
        sampled: which of them the policy sampled: all, none, or a flag each.
        logprobs: the policy's logprob of each token, temperature 1, full vocabulary; None for a
            token, or in all, where none is known.
        sampler_logprobs: the same after temperature, truncation and penalties.
        finish_reason: why a sampled turn ended, one of FINISH_REASONS; None where unknown.
        message: the plain message: content, tool calls, ids, names, reasoning.
    """

    role: str
    token_ids: Sequence[int] | None
    sampled: bool | Sequence[bool] = False
    logprobs: Sequence[float | None] | None = None
    sampler_logprobs: Sequence[float | None] | None = None
    finish_reason: str | None = None
    message: Mapping[str, Any] | None = None


def columns(where: str, turns: Sequence[Turn], *, tokens_from: str = "sampled") -> dict[str, Any]:
    """The columns of table rollouts that a conversation decides.

    The prompt ends before the first sampled token; a turn that begins there and is sampled further
    on is a turn of the response from its first sampled token on.

    Args:
        where: what errors call the conversation, e.g. `file.jsonl line 7`.
        turns: in order; at least one is sampled.
        tokens_from: sampled (as the model saw them) or retokenised from text.

    Returns:
        `prompt_token_ids`, `response_token_ids`, `response_mask` (None where all are sampled),
        `response_logprobs` and `sampler_logprobs` (None where none is known), `turns`, `messages`,
        `finish_reason`, `prompt_tokens`, `response_tokens`, `sampled_tokens`, `tokens_from`. All
        that need tokens are None where only text is known.

    Raises:
        InputError: names `where`: no sampled turn, lengths that differ, an unknown finish reason.
    """
    flags = [_flags(where, i, turn) for i, turn in enumerate(turns)]
    first = next((i for i, flag in enumerate(flags) if any(flag)), None)
    if first is None:
        raise _wrong(where, "the policy sampled no token of it", "mark the assistant's turns")
    messages = [dict(turn.message) for turn in turns if turn.message is not None]
    last = max(i for i, flag in enumerate(flags) if any(flag))
    common = {
        "messages": json.dumps(messages, ensure_ascii=False) if messages else None,
        "finish_reason": turns[last].finish_reason,
    }
    if all(turn.token_ids is None for turn in turns):
        unknown = dict.fromkeys(_OF_TOKENS)
        return common | unknown | {"tokens_from": "none"}
    tokens = [_tokens(where, i, turn) for i, turn in enumerate(turns)]
    split = flags[first].index(True)
    prompt = [token for part in tokens[:first] for token in part] + tokens[first][:split]
    spans, response, mask = [], list[int](), list[bool]()
    for i, turn in list(enumerate(turns))[first:]:
        skip = split if i == first else 0
        spans.append(
            {
                "start": len(response),
                "length": len(tokens[i]) - skip,
                "role": turn.role,
                "finish_reason": turn.finish_reason,
                "message": None
                if turn.message is None
                else json.dumps(turn.message, ensure_ascii=False),
            }
        )
        response += tokens[i][skip:]
        mask += flags[i][skip:]
    row = common | {
        "tokens_from": tokens_from,
        "prompt_token_ids": prompt,
        "response_token_ids": response,
        "response_mask": None if all(mask) else mask,
        "response_logprobs": _joined(where, "logprobs", turns, len(prompt)),
        "sampler_logprobs": _joined(where, "sampler_logprobs", turns, len(prompt)),
        "turns": spans,
        "prompt_tokens": len(prompt),
        "response_tokens": len(response),
        "sampled_tokens": sum(mask),
    }
    check_row(where, row)
    return row


_OF_TOKENS = (
    "prompt_token_ids",
    "response_token_ids",
    "response_mask",
    "response_logprobs",
    "sampler_logprobs",
    "turns",
    "prompt_tokens",
    "response_tokens",
    "sampled_tokens",
)


def sampled_mask(row: Mapping[str, Any]) -> list[bool]:
    """T flags: which response tokens the policy sampled."""
    mask = row.get("response_mask")
    return [True] * len(row["response_token_ids"]) if mask is None else list(mask)


def check_row(where: str, row: Mapping[str, Any], vocab_size: int | None = None) -> None:
    """Refuse a row of table rollouts whose columns do not fit each other.

    Args:
        where: what errors call it.
        row: columns of table rollouts; any may be missing or None.
        vocab_size: token ids lie in [0, vocab_size); None checks only that they are not negative.

    Raises:
        InputError: names `where` and the column: lists of other lengths than T, counts that are
            not those of the lists, ids out of range, logprobs above 0 or NaN, a sampler's logprob
            of a token that was not sampled, spans out of order or range, an unknown finish reason.
    """
    prompt, response = row.get("prompt_token_ids"), row.get("response_token_ids")
    _check_reason(where, row.get("finish_reason"))
    if response is None:
        needing = ("response_mask", "response_logprobs", "sampler_logprobs", "turns")
        for name in needing:
            if row.get(name) is not None:
                raise _wrong(where, f"{name} is there, response_token_ids is not")
        return
    n_tokens = len(response)
    for name in ("response_mask", "response_logprobs", "sampler_logprobs"):
        if row.get(name) is not None and len(row[name]) != n_tokens:
            raise _wrong(where, f"{name} has {len(row[name])} entries for {n_tokens} tokens")
    mask = sampled_mask(row)
    counts = {"response_tokens": n_tokens, "sampled_tokens": sum(mask)}
    counts |= {} if prompt is None else {"prompt_tokens": len(prompt)}
    for name, count in counts.items():
        if row.get(name) is not None and row[name] != count:
            raise _wrong(where, f"{name} is {row[name]}, its lists say {count}")
    for tokens in (prompt, response):
        _check_ids(where, tokens or (), vocab_size)
    for name in ("response_logprobs", "sampler_logprobs"):
        _check_logprobs(where, name, row.get(name), mask)
    _check_spans(where, "turns", row.get("turns"), n_tokens)
    _check_spans(where, "policy_spans", row.get("policy_spans"), n_tokens)
    if (row.get("parent_tokens") or 0) > n_tokens:
        raise _wrong(where, f"parent_tokens is {row['parent_tokens']}, above its {n_tokens} tokens")


def _flags(where: str, index: int, turn: Turn) -> list[bool]:
    """One flag per token; of text alone one for the turn."""
    _check_reason(where, turn.finish_reason)
    n_tokens = 1 if turn.token_ids is None else len(turn.token_ids)
    if isinstance(turn.sampled, bool):
        return [turn.sampled] * n_tokens
    if turn.token_ids is None or len(turn.sampled) != n_tokens:
        raise _wrong(where, f"turn {index} has {len(turn.sampled)} flags, not one per token")
    return list(turn.sampled)


def _tokens(where: str, index: int, turn: Turn) -> list[int]:
    if turn.token_ids is None:
        raise _wrong(
            where,
            f"turn {index} ({turn.role}) has no token ids, other turns have",
            "give the token ids of every turn, or of none",
        )
    return list(turn.token_ids)


def _joined(
    where: str, name: str, turns: Sequence[Turn], n_prompt: int
) -> list[float | None] | None:
    """Logprobs of the response tokens; None where no turn has any."""
    every: list[float | None] = []
    for index, turn in enumerate(turns):
        n_tokens, given = len(turn.token_ids or ()), getattr(turn, name)
        if given is not None and len(given) != n_tokens:
            raise _wrong(where, f"turn {index} has {len(given)} {name} for {n_tokens} tokens")
        every += [None] * n_tokens if given is None else list(given)
    response = every[n_prompt:]
    return None if all(value is None for value in response) else response


# Rounding of a log_softmax in float32 leaves a certain token a little above 0.
_ABOVE_ZERO = 1e-3


def _check_ids(where: str, tokens: Sequence[int], vocab_size: int | None) -> None:
    least, most = min(tokens, default=0), max(tokens, default=0)
    if least < 0 or (vocab_size is not None and most >= vocab_size):
        wrong = least if least < 0 else most
        raise _wrong(where, f"token id {wrong} is outside [0, {vocab_size or 'vocabulary'})")


def _check_logprobs(
    where: str, name: str, logprobs: Sequence[float | None] | None, mask: Sequence[bool]
) -> None:
    if logprobs and all(mask) and None not in logprobs:
        known = [value for value in logprobs if value is not None]
        # A sum that differs from itself has a NaN in it.
        if max(known) <= _ABOVE_ZERO and sum(known) == sum(known):
            return
    for t, logprob in enumerate(logprobs or ()):
        # `not <=` is also true of NaN.
        if logprob is not None and not logprob <= _ABOVE_ZERO:
            raise _wrong(where, f"{name} of token {t} is {logprob}, not at most 0")
        if name == "sampler_logprobs" and logprob is not None and not mask[t]:
            raise _wrong(
                where,
                f"{name} of token {t} is {logprob}, though the policy did not sample it",
                "null where response_mask is false",
            )


def _check_spans(
    where: str, name: str, spans: Sequence[Mapping[str, Any]] | None, n_tokens: int
) -> None:
    end = 0
    for i, span in enumerate(spans or ()):
        length = span.get("length", 0)
        if name == "policy_spans" and span["start"] is None:
            continue
        if span["start"] < end or length < 0 or span["start"] + length > n_tokens:
            raise _wrong(
                where,
                f"{name}[{i}] covers [{span['start']}, {span['start'] + length}) of "
                f"{n_tokens} tokens, after {end}",
                "spans stand in order within the response",
            )
        end = span["start"] + length
        _check_reason(where, span.get("finish_reason"))


def _check_reason(where: str, reason: str | None) -> None:
    if reason is not None and reason not in FINISH_REASONS:
        raise _wrong(
            where, f"finish reason {reason!r} is unknown", f"one of {', '.join(FINISH_REASONS)}"
        )


def _wrong(where: str, what: str, fix: str = "") -> InputError:
    return InputError(f"{where}: {what}", "the columns of a rollout must fit each other", fix)
