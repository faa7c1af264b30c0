"""tinker-cookbook: `capture/sample.jsonl`; rewards of `iteration_N/*_rollout_summaries.jsonl`.

Each call is a rollout of its own: the turns of a trajectory are calls of one scope, and not joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from s2d_store.importers import files
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import (
    Asked,
    Read,
    Record,
    Reject,
    Reward,
    Sampler,
    Sampling,
    reason,
)
from s2d_store.importers.registry import Head, Importer

_SETTINGS = ("max_tokens", "temperature", "top_p", "top_k", "seed")
_HELD = {"prompt_tokens", "samples", "sampling_params"}
Summaries = Mapping[tuple[Any, ...], Mapping[str, Any]]


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, partial(_make, _summaries(path.resolve().parent.parent)))


def _summaries(folder: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Summaries of trajectories by split, iteration, group and place."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in sorted(folder.glob("iteration_*/*rollout_summaries.jsonl")):
        for line in files.json_lines(path, path.name):
            if isinstance(line, Line):
                found[_scope(line.value, line.value.get("traj_idx"))] = line.value
    return found


def _scope(row: Mapping[str, Any], trajectory: Any) -> tuple[Any, ...]:
    return row.get("split"), row.get("iteration"), row.get("group_idx"), trajectory


def _make(summaries: Summaries, line: Line) -> Iterator[Read]:
    row = line.value
    samples = row.get("samples") or ()
    if row.get("kind") != "sample" or not samples:
        detail = str(row.get("error") or row.get("status"))
        yield Reject(line.file, line.number, "a call without samples", detail)
        return
    scope, asked = row["scope"], row.get("sampling_params") or {}
    extra = {name: value for name, value in asked.items() if name not in _SETTINGS}
    for part, sample in enumerate(samples):
        place = scope.get("traj_idx")
        summary = summaries.get(_scope(scope, part if place is None else place))
        # The reward of several steps belongs to all of them, not to one call.
        whole = summary is not None and len(summary.get("steps") or ()) == 1
        yield Record(
            file=line.file,
            line=line.number,
            content=line.content,
            part=part,
            size=line.size // len(samples),
            group=(scope.get("run_id"), *_scope(scope, None), row["prompt_tokens"]),
            asked=Asked(),
            sampler=Sampler(
                model=row.get("base_model") or row.get("model_path"),
                version=scope.get("policy_version"),
            ),
            sampling=Sampling(**{n: asked.get(n) for n in _SETTINGS}, extra=extra or None),
            prompt_token_ids=row["prompt_tokens"],
            response_token_ids=sample["tokens"],
            logprobs=sample.get("logprobs"),
            finish_reason=reason(sample.get("stop_reason")),
            rewards=[Reward("total_reward", summary["total_reward"])] if summary and whole else [],
            purpose="eval" if scope.get("split") in ("eval", "test") else "train",
            rest=None if part else {n: v for n, v in row.items() if n not in _HELD},
        )


def _claims(head: Head) -> bool:
    return head.keys >= {"scope", "prompt_tokens", "samples"}


IMPORTER = Importer(
    "tinker",
    "1",
    "captured samples of the cookbook",
    _claims,
    _read,
    {
        "prompt": "prompt_tokens; stored prompts of equal tokens with --tokenizer",
        "prompt_token_ids, response_token_ids": "prompt_tokens, the samples' tokens",
        "sampler_logprobs": "the samples' logprobs",
        "policy": "base_model; version: the scope's policy_version",
        "sampling settings": "sampling_params",
        "finish_reason": "stop_reason",
        "group_id": "scope and prompt",
        "rewards": "total_reward of the summaries, for trajectories of one step",
    },
    (
        "rewards of several steps: they belong to the whole trajectory, whose calls are not joined",
        "texts: not in the file",
    ),
    beside=lambda head: "_rollout_summaries" in head.path.name,
)
