"""verifiers before v1 (vf-eval, older prime-rl): `results.jsonl` with `metadata.json` beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from s2d_store.importers import files, steps
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler, Sampling, without
from s2d_store.importers.registry import Head, Importer

_HELD: tuple[str, ...] = (
    "example_id",
    "prompt",
    "completion",
    "answer",
    "info",
    "reward",
    "metrics",
)
_HELD += ("is_truncated", "sampler_seed", "tool_defs", "trajectory.*.prompt")
_HELD += ("trajectory.*.completion", "trajectory.*.trajectory_id", "trajectory.*.response.model")


def _read(path: Path, name: str) -> Iterator[Read]:
    beside = path.parent / "metadata.json"
    # The settings are those of its own results alone.
    own = path.name.startswith("results") and beside.is_file()
    about = files.json_file(beside) if own else {}
    return records(path, name, partial(_make, about))


def _make(about: Mapping[str, Any], line: Line) -> Iterator[Read]:
    row = line.value
    trajectory = row.get("trajectory") or ()
    prompt, completion = row["prompt"], row["completion"]
    plain = isinstance(prompt, str)
    sampling = about.get("sampling_args") or {}
    extra = {n: v for n, v in sampling.items() if n not in _SETTINGS}
    grown = steps.grown(_step(step) for step in trajectory)
    model = about.get("model")
    if trajectory:
        model = (trajectory[0].get("response") or {}).get("model") or model
    env = about.get("env_id")
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(env, model, about.get("date"), row["example_id"]),
        asked=Asked(
            messages=None if plain else prompt,
            text=prompt if plain else None,
            tools=row.get("tool_defs") or None,
            answer=row.get("answer"),
            task={"env": env, "example_id": row["example_id"]},
            meta=row.get("info") if isinstance(row.get("info"), dict) else None,
        ),
        sampler=Sampler(model=model),
        sampling=Sampling(
            **{name: sampling.get(name) for name in _SETTINGS if name != "seed"},
            seed=row.get("sampler_seed", sampling.get("seed")),
            extra=extra or None,
        ),
        messages=None if plain else [*prompt, *completion],
        text=completion if isinstance(completion, str) else completion[-1]["content"],
        finish_reason=_reason(row),
        episode_id=trajectory[0].get("trajectory_id") if trajectory else None,
        rewards=[Reward("reward", row["reward"], metrics=row.get("metrics"))],
        purpose="eval",
        rest=without(row, _HELD if isinstance(row.get("info"), dict) else _HELD[:4] + _HELD[5:]),
        **grown,
    )


_SETTINGS = ("temperature", "top_p", "top_k", "max_tokens", "seed")


def _reason(row: Mapping[str, Any]) -> str | None:
    if row.get("error"):
        return "error"
    if row.get("is_truncated"):
        return "length"
    return "stop" if row.get("is_completed") and "is_truncated" in row else None


def _step(step: Mapping[str, Any]) -> steps.Step | None:
    tokens = step.get("tokens") or {}
    if not tokens.get("completion_ids"):
        return None
    return steps.Step(
        tokens["prompt_ids"], tokens["completion_ids"], tokens.get("completion_logprobs")
    )


def _claims(head: Head) -> bool:
    named = head.keys >= {"example_id", "prompt", "completion", "reward"}
    return head.kind == ".jsonl" and named


IMPORTER = Importer(
    "verifiers-v0",
    "0",
    "vf-eval results and older prime-rl rollouts",
    _claims,
    _read,
    {
        "prompt": "prompt, tool_defs, answer; info as meta",
        "messages": "prompt and completion",
        "response_text": "the completion's last message",
        "token ids, logprobs": "the trajectory's tokens, where each step goes on from the last",
        "sampling settings": "metadata.json's sampling_args; sampler_seed",
        "finish_reason": "is_truncated, is_completed, error",
        "group_id": "example_id of one evaluation",
        "rewards": "reward; metrics among its metrics",
    },
    ("timing, token_usage and other fields: kept in column source",),
    beside=lambda head: head.path.name == "metadata.json",
)
