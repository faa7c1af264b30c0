"""Inspect: `.eval` logs (a zip of JSON) and `.json` logs, read without inspect_ai."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.importers import files
from s2d_store.importers.files import Line
from s2d_store.importers.record import (
    Asked,
    Message,
    Read,
    Record,
    Reject,
    Reward,
    Sampler,
    Sampling,
    reason,
    without,
)
from s2d_store.importers.registry import Head, Importer
from s2d_store.messages import text_of

# As Inspect's own value_to_float reads a score.
_VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_HELD: tuple[str, ...] = (
    "id",
    "epoch",
    "target",
    "messages",
    "output.model",
    "output.choices.0.message",
)
_HELD += ("output.choices.0.stop_reason", "metadata", "scores.*.value", "scores.*.answer")
_ATTACHED = "attachment://"


def _read(path: Path, name: str) -> Iterator[Read]:
    if path.suffix.lower() != ".eval":
        log = files.json_file(path)
        for number, sample in enumerate(log.get("samples") or ()):
            raw = json.dumps(sample, sort_keys=True).encode()
            yield from _line(log, Line(name, number, files.hashed(raw), sample, len(raw)))
        return
    try:
        with zipfile.ZipFile(path) as archive:
            found = [n for n in archive.namelist() if n.startswith("samples/")]
            header = json.loads(archive.read("header.json"))
            for number, inside in enumerate(found):
                raw = archive.read(inside)
                line = Line(name, number, files.hashed(raw), json.loads(raw), len(raw))
                yield from _line(header, line)
    except files.DAMAGE as error:
        yield Reject(name, 0, "the file ends in the middle, or is damaged", str(error))
    except (KeyError, ValueError) as error:
        yield Reject(name, 0, "not an Inspect log of this version", str(error))


def _line(header: Mapping[str, Any], line: Line) -> Iterator[Read]:
    return files.made(line, lambda line: [_record(header, line)])


def _record(header: Mapping[str, Any], line: Line) -> Record:
    row, about = line.value, header["eval"]
    messages = _resolved(row["messages"], row.get("attachments") or {})
    split = next((i for i, m in enumerate(messages) if _sampled(m)), len(messages))
    if split == len(messages):
        raise InputError("the sample has no message of the model")
    said = messages[-1]
    config = (header.get("plan") or {}).get("config") or {}
    config = (about.get("model_generate_config") or {}) | config
    choice = (row["output"].get("choices") or [{}])[0]
    held = [path for path in _HELD if path != "scores.*.answer"]
    held += [f"scores.{n}.answer" for n, s in (row.get("scores") or {}).items() if _text(s)]
    if messages[split - 1].get("content") == row["input"] and split:
        held.append("input")
    return Record(
        file=line.file,
        line=line.number,
        content=line.content,
        size=line.size,
        key=f"{about.get('run_id')}/{about.get('task_id')}/{row['id']}/{row['epoch']}",
        group=(about.get("run_id"), about.get("task_id"), row["id"]),
        index=row["epoch"] - 1,
        asked=Asked(
            messages=messages[:split],
            answer=row["target"],
            task={"dataset": (about.get("dataset") or {}).get("name"), "id": row["id"]},
            meta=row.get("metadata") or {},
        ),
        sampler=Sampler(model=about["model"], fingerprint=row["output"].get("model") or None),
        sampling=Sampling(
            temperature=config.get("temperature"),
            top_p=config.get("top_p"),
            top_k=config.get("top_k"),
            max_tokens=config.get("max_tokens"),
            seed=config.get("seed"),
        ),
        messages=messages,
        text=text_of(said) if _sampled(said) else None,
        finish_reason=reason(choice.get("stop_reason")),
        rewards=[_reward(name, score) for name, score in (row.get("scores") or {}).items()],
        purpose="eval",
        rest=without(row, held),
    )


def _sampled(message: Message) -> bool:
    return bool(message["role"] == "assistant" and message.get("source") in (None, "generate"))


def _text(score: Mapping[str, Any]) -> bool:
    return isinstance(score.get("answer"), str)


def _reward(name: str, score: Mapping[str, Any]) -> Reward:
    value = score["value"]
    number = _VALUES.get(value) if isinstance(value, str) else value
    read = score["answer"] if _text(score) else ""
    return Reward(name, number, read, {"value": value})


def _resolved(messages: Sequence[Message], attached: Mapping[str, str]) -> list[dict[str, Any]]:
    """The messages with long texts put back in place of their hashes."""

    def put(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(_ATTACHED):
            return attached.get(value.removeprefix(_ATTACHED), value)
        if isinstance(value, dict):
            return {name: put(item) for name, item in value.items()}
        return [put(item) for item in value] if isinstance(value, list) else value

    return [put(message) for message in messages]


def _claims(head: Head) -> bool:
    return head.kind == ".eval" or (head.kind == ".json" and head.keys >= {"eval", "samples"})


IMPORTER = Importer(
    "inspect",
    "2",
    "evaluation logs",
    _claims,
    _read,
    {
        "prompt": "messages before the model's first; metadata as meta",
        "answer": "target",
        "messages": "messages, attachments put back",
        "response_text": "the last message",
        "policy": "eval.model; the model that answered as its fingerprint",
        "sampling settings": "the plan's and the task's configuration",
        "finish_reason": "stop_reason of the output",
        "group_id": "run, task and sample; index: epoch",
        "rewards": "scores: C 1, P 0.5, I and N 0; the value itself among the metrics",
    },
    ("token ids: Inspect has texts alone", "events, attachments, usage: kept in column source"),
)
