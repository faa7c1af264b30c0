"""slime: `--save-debug-rollout-data` files (.pt), opened as weights alone, never as a pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers import files
from s2d_store.importers.files import Line
from s2d_store.importers.record import Asked, Read, Record, Reject, Reward, Sampler, reason
from s2d_store.importers.registry import Head, Importer

_HELD = {"prompt", "response", "tokens", "response_length", "label", "reward", "loss_mask"}
_HELD |= {"weight_versions", "rollout_log_probs", "status", "session_id"}


def _read(path: Path, name: str) -> Iterator[Read]:
    evaluation = path.name.startswith("eval_")
    try:
        samples = load(path)["samples"]
    except InputError as error:
        yield Reject(name, 0, "the file cannot be opened safely", str(error))
        return
    for number, sample in enumerate(samples):
        raw = json.dumps(sample, sort_keys=True, default=str).encode()
        line = Line(name, number, files.hashed(raw), sample, len(raw))
        yield from files.made(line, lambda line: [_record(line, evaluation)])


def load(path: Path) -> dict[str, Any]:
    """A torch file that holds plain values and tensors.

    Raises:
        InputError: torch is not installed, or the file holds other objects, or is cut.
    """
    try:
        import torch
    except ImportError as error:
        fix = 'pip install "s2d[train]"'
        raise InputError(f"{path.name} is a torch file", "torch is not installed", fix) from error
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, *files.DAMAGE) as error:
        raise _refused(path, error) from None
    except Exception as error:  # the boundary: UnpicklingError, which is not ours to import
        if "Unpickling" not in type(error).__name__:
            raise
        raise _refused(path, error) from None
    if not isinstance(found, dict) or not isinstance(found.get("samples"), list):
        raise InputError(f"{path.name} has no list of samples", "it is another kind of torch file")
    return found


def _refused(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"{path.name} cannot be opened as weights alone",
        f"{reason}; a pickle can run code, so s2d opens none",
        "write it again without numpy arrays, or as JSONL",
    )


def _record(line: Line, evaluation: bool) -> Record:
    row = line.value
    prompt, tokens = row["prompt"], row["tokens"]
    n_prompt = len(tokens) - row["response_length"]
    flags, logprobs = row.get("loss_mask"), row.get("rollout_log_probs")
    mask = None if flags is None else [bool(flag) for flag in flags]
    if mask is not None and logprobs is not None:
        # A tool's tokens have 0.0.
        logprobs = [x if flag else None for x, flag in zip(logprobs, mask, strict=True)]
    versions = [_version(v) for v in row.get("weight_versions") or ()]
    asked = Asked(
        messages=prompt if isinstance(prompt, list) else None,
        text=prompt if isinstance(prompt, str) else None,
        form="templated",
        answer=row.get("label"),
    )
    said = {"role": "assistant", "content": row["response"]}
    before = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(row.get("rollout_id"), row.get("group_index"), evaluation)
        if row.get("group_index") is not None
        else (line.file, prompt),
        asked=asked,
        sampler=Sampler(version=versions[0] if versions else None),
        spans=_spans(versions),
        prompt_token_ids=tokens[:n_prompt] or None,
        response_token_ids=tokens[n_prompt:] if tokens else None,
        response_mask=None if mask is None or all(mask) else mask,
        logprobs=logprobs,
        messages=[*before, said],
        text=row["response"],
        text_form="templated",
        finish_reason=reason(row.get("status")),
        episode_id=row.get("session_id"),
        rewards=_rewards(row["reward"]),
        purpose="eval" if evaluation else "train",
        rest={name: value for name, value in row.items() if name not in _HELD},
    )


def _version(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _spans(versions: list[int | str]) -> list[tuple[int | None, int | str]]:
    """One entry per call, not per token: where a version began is not known, but the first."""
    distinct = list(dict.fromkeys(versions))
    return [(None if place else 0, version) for place, version in enumerate(distinct)]


def _rewards(reward: float | Mapping[str, Any] | None) -> list[Reward]:
    if isinstance(reward, Mapping):
        numbers = {n: v for n, v in reward.items() if isinstance(v, int | float)}
        others = {n: v for n, v in reward.items() if n not in numbers}
        return [Reward(name, value, metrics=others or None) for name, value in numbers.items()]
    return [] if reward is None else [Reward("reward", reward)]


def _claims(head: Head) -> bool:
    return head.kind == ".pt"


IMPORTER = Importer(
    "slime",
    "624b824a",
    "debug rollout data",
    _claims,
    _read,
    {
        "prompt": "prompt: messages, or the text after the template",
        "answer": "label",
        "prompt_token_ids, response_token_ids": "tokens, cut at response_length",
        "response_mask": "loss_mask",
        "sampler_logprobs": "rollout_log_probs where the mask is 1",
        "policy version": "the first of weight_versions; the others as policy_spans",
        "finish_reason": "status",
        "group_id": "rollout_id and group_index",
        "rewards": "reward; of an evaluation's dict each number",
    },
    ("routed experts, top-p ids, teacher logprobs: kept in column source",),
)
