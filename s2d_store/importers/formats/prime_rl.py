"""prime-rl and verifiers v1: `traces.jsonl`, an episode per line, and the stream of chunks.

A trace is a tree of messages with their tokens; a rollout is a path from its root to a leaf.
`effective` holds copies of rows of `all`. Logprobs stand at the sampled tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from s2d_store.importers import files
from s2d_store.importers.files import Line, records
from s2d_store.importers.record import (
    Asked,
    Message,
    Read,
    Record,
    Reward,
    Sampler,
    Sampling,
    moment,
    without,
)
from s2d_store.importers.registry import Head, Importer
from s2d_store.messages import text_of
from s2d_store.rollouts.sequences import FINISH_REASONS, Turn

Node = Mapping[str, Any]

_CALL: tuple[str, ...] = (
    "model",
    "endpoint",
    "finish_reason",
    "sampling.temperature",
    "sampling.max_tokens",
)
_CALL += ("sampling.top_p", "sampling.top_k")
_TRACE = (*(f"calls.0.{name}" for name in _CALL), "agent.name", "metrics", "info.advantage")
_TRACE += ("timing.start", "rewards.*.score", "rewards.*.weight")
_NODE = ("message", "token_ids", "mask", "sampled", "logprobs")


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, partial(_make, _annotations(path.parent)))


def _annotations(folder: Path) -> dict[str, dict[str, Any]]:
    """Annotations of the stream layout by trace: its step, subset and advantage."""
    found: dict[str, dict[str, Any]] = {}
    for place in (folder, folder.parent):
        for path in sorted(place.glob("*annotation*.jsonl*")):
            for line in files.json_lines(path, path.name):
                if isinstance(line, Line) and "trace_id" in line.value:
                    row = dict(line.value)
                    found[str(row.pop("trace_id"))] = row
    return found


def _make(annotations: Mapping[str, Mapping[str, Any]], line: Line) -> Iterator[Read]:
    episode = line.value
    run, traces = episode.get("run") or {}, episode["traces"]
    policy = (run.get("work") or {}).get("policy") or {}
    group = (run.get("id"), (episode.get("group") or {}).get("id", episode["id"]))
    common: dict[str, Any] = {
        "file": line.file,
        "line": line.number,
        "content": line.content,
        "group": group,
        "episode_id": episode["id"],
        "purpose": "eval" if run.get("type") == "eval" else "train",
    }
    rest = without(episode, _held(episode))
    if not traces:
        asked, sampler = _asked(episode["task"], ()), Sampler(version=policy.get("start"))
        failed = {"size": line.size, "finish_reason": "error", "rest": rest}
        yield Record(**common, **failed, asked=asked, sampler=sampler, spans=_spans(policy))
        return
    whole = [(trace, path) for trace in traces for path in _paths(trace["nodes"])]
    forks: dict[str, list[int]] = {}
    for part, (trace, path) in enumerate(whole):
        made = _rollout(trace, path, policy, annotations.get(trace["id"]))
        earlier = forks.setdefault(trace["id"], [])
        if earlier:
            parent, shared = _fork(whole, earlier, path)
            made |= {"parent": parent, "parent_tokens": shared}
        earlier.append(part)
        size = line.size // len(whole)
        yield Record(**common, **made, part=part, size=size, rest=None if part else rest)


def _rollout(
    trace: Mapping[str, Any],
    path: Sequence[int],
    policy: Mapping[str, Any],
    annotation: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The fields of one path's record that are its own."""
    nodes, calls = [trace["nodes"][i] for i in path], trace.get("calls") or [{}]
    reasons = {call["node"]: call.get("finish_reason") for call in calls if "node" in call}
    known = all(node.get("token_ids") for node in nodes)
    turns = [_turn(node, reasons.get(i), known) for i, node in zip(path, nodes, strict=True)]
    agent, call = trace.get("agent") or {}, calls[0]
    trained = agent.get("trainable", True)
    sampling = call.get("sampling") or {}
    last = nodes[-1]["message"]
    timing = (trace.get("timing") or {}).get("start")
    return {
        "asked": _asked(trace.get("task") or {}, _before(nodes), trace.get("tools")),
        "sampler": Sampler(
            model=call.get("model"), version=policy.get("start") if trained else None
        ),
        "spans": _spans(policy) if trained else None,
        "turns": turns,
        "text": text_of(last) if last["role"] == "assistant" else None,
        "agent": agent.get("name"),
        "sampling": Sampling(
            temperature=sampling.get("temperature"),
            top_p=sampling.get("top_p"),
            top_k=sampling.get("top_k"),
            max_tokens=sampling.get("max_tokens"),
        ),
        "endpoint": call.get("endpoint"),
        "created_at": moment(timing),
        "rewards": _rewards(trace, annotation),
    }


def _turn(node: Node, reason: str | None, known: bool) -> Turn:
    message, reason = node["message"], reason if reason in FINISH_REASONS else None
    if not known:
        return Turn(message["role"], None, bool(node.get("sampled")), None, None, reason, message)
    mask = node["mask"]
    given = iter(node.get("logprobs") or ())
    logprobs = [next(given, None) if flag else None for flag in mask]
    return Turn(message["role"], node["token_ids"], mask, None, logprobs, reason, message)


def _paths(nodes: Sequence[Node]) -> list[list[int]]:
    """Root to leaf, by node number; in order of the leaves."""
    parents = [node.get("parent") for node in nodes]
    leaves = [i for i in range(len(nodes)) if i not in set(parents)]
    found = []
    for leaf in leaves:
        path, at = list[int](), leaf
        while True:
            if at in path:
                raise ValueError(f"node {at} is its own ancestor")
            path.append(at)
            parent = parents[at]
            if parent is None:
                break
            at = parent
        found.append(path[::-1])
    return found


def _fork(
    whole: Sequence[tuple[Mapping[str, Any], Sequence[int]]],
    earlier: Sequence[int],
    path: Sequence[int],
) -> tuple[int, int]:
    """The earlier rollout of the trace that shares most, and the response tokens that it shares."""

    def common(part: int) -> int:
        pairs = zip(whole[part][1], path, strict=False)
        return next(
            (n for n, (a, b) in enumerate(pairs) if a != b), min(len(whole[part][1]), len(path))
        )

    parent = max(earlier, key=common)
    trace = whole[parent][0]
    flags = [f for i in path[: common(parent)] for f in trace["nodes"][i].get("mask") or ()]
    return parent, len(flags) - flags.index(True) if True in flags else 0


def _before(nodes: Sequence[Node]) -> list[Message]:
    split = next((i for i, node in enumerate(nodes) if _is_sampled(node)), len(nodes))
    return [node["message"] for node in nodes[:split]]


def _is_sampled(node: Node) -> bool:
    return bool(node.get("sampled")) or any(node.get("mask") or ())


def _asked(task: Mapping[str, Any], messages: Sequence[Message], tools: Any = None) -> Asked:
    data = task.get("data") or {}
    if not messages and isinstance(data.get("prompt"), str):
        messages = [{"role": "user", "content": data["prompt"]}]
    named = without(dict(task), ("data.prompt", "data.answer"))
    answer = data.get("answer")
    return Asked(messages=messages or None, answer=answer, tools=tools or None, task=named or None)


def _spans(policy: Mapping[str, Any]) -> list[tuple[int | None, int]] | None:
    """Where in the rollout the weights changed is not known."""
    start, end = policy.get("start"), policy.get("end")
    return None if start is None or end in (None, start) else [(0, start), (None, end)]


def _rewards(trace: Mapping[str, Any], annotation: Mapping[str, Any] | None) -> list[Reward]:
    """Each component with its weight, and their weighted sum as `reward`."""
    found, total = list[Reward](), 0.0
    for name, reward in (trace.get("rewards") or {}).items():
        if reward is not None:
            total += reward["score"] * reward["weight"]
            found.append(Reward(name, reward["score"], metrics={"weight": reward["weight"]}))
    advantage = (trace.get("info") or {}).get("advantage")
    metrics = {"metrics": trace.get("metrics"), "advantage": advantage}
    if annotation:
        metrics["annotation"] = annotation
    return [*found, Reward("reward", total, metrics=metrics)] if found else []


def _held(episode: Mapping[str, Any]) -> list[str]:
    """Paths of an episode that columns hold."""
    held = ["id", "run.work.policy.start", "run.work.policy.end"]
    task, traces = episode["task"], episode["traces"]
    prompt = (task.get("data") or {}).get("prompt")
    asked = [{"role": "user", "content": prompt}]
    plain = all(_before(trace["nodes"]) == asked for trace in traces)
    held += ["task"] if plain and isinstance(prompt, str) else []
    for place, trace in enumerate(traces):
        at = f"traces.{place}"
        names = [name for name in _TRACE if trace.get("rewards") or name != "metrics"]
        held += [f"{at}.{name}" for name in names]
        held += [f"{at}.task"] if "task" in held and trace.get("task") == task else []
        known = all(node.get("token_ids") for node in trace["nodes"])
        held += [f"{at}.nodes.*.{name}" for name in (_NODE if known else _NODE[:1])]
    return held


def _claims(head: Head) -> bool:
    return head.keys >= {"traces", "task", "id"}


def _beside(head: Head) -> bool:
    return "trace_id" in head.keys or head.keys >= {"trace_ids", "chunk"}


IMPORTER = Importer(
    "prime-rl",
    "0.3.1",
    "traces of prime-rl and verifiers v1",
    _claims,
    _read,
    {
        "prompt": "the messages before the first sampled one; else the task's prompt",
        "answer": "the task's answer",
        "messages, turns": "the nodes from the root to a leaf",
        "prompt_token_ids, response_token_ids, response_mask": "the nodes' token_ids and mask",
        "sampler_logprobs": "the nodes' logprobs",
        "policy": "run.work.policy.start; its end as policy_spans",
        "sampling settings": "the first call",
        "finish_reason": "the calls' finish_reason",
        "group_id": "run and group",
        "rewards": "each component with its weight, and their weighted sum as `reward`",
        "parent_rollout_id": "of a trace that branches: the rollout it shares most with",
    },
    ("advantages and loss weights per token: there is no column; kept in column source",),
    beside=_beside,
)
