"""NeMo Gym: rollouts in the form of the Responses API, with token ids on the output items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2d_store.importers import steps
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

_ASKED, _SAID = "responses_create_params", "response.output.*"
_OWN: tuple[str, ...] = ("responses_create_params", "response", "reward", "agent_ref")
_OWN += ("_ng_task_index", "_ng_rollout_index")
_HELD: tuple[str, ...] = tuple(
    f"{_ASKED}.{n}" for n in ("input", "temperature", "top_p", "max_output_tokens")
)
_HELD += ("response.model", "response.created_at", f"{_SAID}.summary.*.text", f"{_SAID}.role")
_HELD += (f"{_SAID}.content.*.text", f"{_SAID}.prompt_token_ids", f"{_SAID}.generation_token_ids")
_HELD += (f"{_SAID}.generation_log_probs", "reward", "agent_ref.name", "_ng_rollout_index")
_ANSWERS = ("expected_answer",)


def _make(line: Line) -> Iterator[Read]:
    row = line.value
    asked, response = row["responses_create_params"], row["response"]
    prompt = _messages(asked["input"])
    said = _output(response["output"])
    calls = [item for item in response["output"] if item.get("type") in _SAMPLED]
    grown = steps.grown(_step(item) for item in calls)
    others = {name: value for name, value in row.items() if name not in _OWN}
    metrics = {n: v for n, v in others.items() if isinstance(v, int | float)}
    answer = next((name for name in _ANSWERS if name in others), "")
    used = (
        ("response.usage.input_tokens", "response.usage.output_tokens") if _fit(row, grown) else ()
    )
    yield Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        group=(row["_ng_task_index"], asked["input"]),
        index=row.get("_ng_rollout_index"),
        asked=Asked(messages=prompt, tools=asked.get("tools") or None, answer=row.get(answer)),
        sampler=Sampler(model=response["model"]),
        sampling=Sampling(
            temperature=asked.get("temperature"),
            top_p=asked.get("top_p"),
            max_tokens=asked.get("max_output_tokens"),
        ),
        messages=[*prompt, *said],
        text=said[-1]["content"] if said and said[-1]["role"] == "assistant" else None,
        agent=(row.get("agent_ref") or {}).get("name"),
        created_at=moment(response.get("created_at")),
        rewards=[Reward("reward", row["reward"], metrics=metrics)],
        rest=without(row, (*_HELD, *used, *metrics, answer)),
        **grown,
    )


_SAMPLED = ("message", "function_call")


def _fit(row: Mapping[str, Any], grown: Mapping[str, Any]) -> bool:
    """Whether the usage that it reports is what its ids say."""
    usage = row["response"].get("usage") or {}
    counts = [len(grown.get(f"{name}_token_ids") or ()) for name in ("prompt", "response")]
    return [usage.get("input_tokens"), usage.get("output_tokens")] == counts


def _step(item: Mapping[str, Any]) -> steps.Step | None:
    if not item.get("generation_token_ids"):
        return None
    return steps.Step(
        item["prompt_token_ids"], item["generation_token_ids"], item.get("generation_log_probs")
    )


def _messages(value: str | Sequence[Message]) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return [{"role": m["role"], "content": _text(m.get("content"))} for m in value if "role" in m]


def _output(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Items of the Responses API as chat messages: reasoning goes with the message after it."""
    found: list[dict[str, Any]] = []
    thought = ""
    for item in items:
        kind = item.get("type")
        if kind == "reasoning":
            thought += "".join(part["text"] for part in item.get("summary") or ())
        elif kind == "message":
            message = {"role": item["role"], "content": _text(item["content"])}
            found.append(message | ({"reasoning_content": thought} if thought else {}))
            thought = ""
        elif kind == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            message = {"role": "assistant", "content": "", "tool_calls": [call]}
            found.append(message | ({"reasoning_content": thought} if thought else {}))
            thought = ""
        elif kind == "function_call_output":
            about = {"role": "tool", "tool_call_id": item.get("call_id")}
            found.append(about | {"content": item["output"]})
    return found


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part.get("text") or "" for part in content)


def _read(path: Path, name: str) -> Iterator[Read]:
    return records(path, name, _make)


def _claims(head: Head) -> bool:
    return head.keys >= {"responses_create_params", "response", "reward"}


IMPORTER = Importer(
    "nemo-gym",
    "07d6b0d0",
    "rollouts of resource servers",
    _claims,
    _read,
    {
        "prompt": "responses_create_params.input",
        "answer": "expected_answer, where the environment has it",
        "messages": "input and output items; reasoning with the message after it",
        "prompt_token_ids, response_token_ids": "the items' ids, where each call goes on from the "
        "last",
        "sampler_logprobs": "generation_log_probs",
        "policy": "response.model",
        "sampling settings": "responses_create_params",
        "group_id": "_ng_task_index and input; index: _ng_rollout_index",
        "rewards": "reward; numbers of the environment among the metrics",
    },
    (
        "ids of calls that do not go on from each other: text alone is kept",
        "other fields of the environment: nothing says which are the task's and which the "
        "rollout's; kept in column source",
        "finish reasons: not in the file",
    ),
    beside=lambda head: "_materialized_inputs" in head.path.name or "_failures" in head.path.name,
)
