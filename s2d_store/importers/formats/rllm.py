"""rLLM: an episode per JSON file; each of its trajectories is a rollout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers import files, steps
from s2d_store.importers.files import Line
from s2d_store.importers.record import Asked, Read, Record, Reject, Reward, Sampler, reason
from s2d_store.importers.registry import Head, Importer

_STEP = ("prompt_ids", "response_ids", "logprobs", "chat_completions", "weight_version")


def _read(path: Path, name: str) -> Iterator[Read]:
    try:
        episode = files.json_file(path)
    except InputError as error:
        yield Reject(name, 0, "the file ends in the middle, or is damaged", str(error))
        return
    raw = json.dumps(episode, sort_keys=True).encode()
    yield from files.made(Line(name, 0, files.hashed(raw), episode, len(raw)), _make)


def _make(line: Line) -> Iterator[Read]:
    episode = line.value
    trajectories = episode["trajectories"]
    task, _, _ = str(episode["id"]).rpartition(":")
    about = {n: v for n, v in episode.items() if n != "trajectories"}
    for part, trajectory in enumerate(trajectories):
        yield _record(line, episode, trajectory, part, task or episode["id"], about)


def _record(
    line: Line,
    episode: Mapping[str, Any],
    trajectory: Mapping[str, Any],
    part: int,
    task: str,
    about: Mapping[str, Any],
) -> Record:
    calls: Sequence[Mapping[str, Any]] = trajectory["steps"]
    messages = calls[-1].get("chat_completions") or None
    split = next((i for i, m in enumerate(messages or ()) if m["role"] == "assistant"), 0)
    versions = list(dict.fromkeys(c["weight_version"] for c in calls if "weight_version" in c))
    metrics = {n: episode[n] for n in ("is_correct", "metrics") if episode.get(n) is not None}
    asked = episode.get("task")
    rest = {n: v for n, v in trajectory.items() if n != "steps"}
    rest["steps"] = [{n: v for n, v in call.items() if n not in _STEP} for call in calls]
    if part == 0:
        rest["episode"] = about
    return Record(
        file=line.file,
        line=line.number,
        content=line.content,
        part=part,
        size=line.size,
        key=str(trajectory.get("uid") or ""),
        group=(task, trajectory.get("name")),
        asked=Asked(
            messages=messages[:split] if messages and split else None,
            task=asked if isinstance(asked, dict) else {"task": asked},
        ),
        sampler=Sampler(version=versions[0] if versions else None),
        spans=[(None if i else 0, v) for i, v in enumerate(versions)] if versions[1:] else None,
        messages=messages,
        text=messages[-1].get("content") if messages else calls[-1].get("model_response"),
        agent=trajectory.get("name"),
        episode_id=str(episode["id"]),
        finish_reason=reason(episode.get("termination_reason")),
        rewards=[]
        if trajectory.get("reward") is None
        else [Reward("reward", trajectory["reward"], metrics=metrics or None)],
        purpose="eval" if episode.get("eval_idx") is not None else "train",
        rest=rest,
        **steps.grown(_step(call) for call in calls),
    )


def _step(call: Mapping[str, Any]) -> steps.Step | None:
    if not call.get("response_ids"):
        return None
    return steps.Step(call["prompt_ids"], call["response_ids"], call.get("logprobs") or None)


def _claims(head: Head) -> bool:
    return head.kind == ".json" and head.keys >= {"id", "trajectories"}


IMPORTER = Importer(
    "rllm",
    "1",
    "episodes",
    _claims,
    _read,
    {
        "prompt": "chat_completions before the assistant's first; the task as task",
        "messages": "the last step's chat_completions",
        "prompt_token_ids, response_token_ids": "the steps' ids, where each goes on from the last",
        "sampler_logprobs": "the steps' logprobs",
        "policy version": "weight_version",
        "finish_reason": "termination_reason, where it is a known one",
        "group_id": "the task part of the id, and the trajectory's name",
        "rewards": "the trajectory's reward; is_correct and metrics among its metrics",
    },
    (
        "ids of steps that do not go on from each other, and of training logs, which have none",
        "sampling settings: not in the file",
    ),
    beside=lambda head: head.path.name == "meta.json",
)
