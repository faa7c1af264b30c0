"""Any JSONL or Parquet whose fields a command names: `--map text=generations --map prompt=problem`.

A field that holds a list where one value is expected (several generations of a problem) makes one
rollout per entry; the other fields' lists go along with it, entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s2d_store.errors import InputError, did_you_mean
from s2d_store.importers import files, registry
from s2d_store.importers.files import Line
from s2d_store.importers.record import Asked, Read, Record, Reward, Sampler, Sampling, reason
from s2d_store.importers.registry import Chosen, Importer
from s2d_store.importers.settings import ImportConfig
from s2d_store.messages import text_of

NAME = "map"
FIELDS: Mapping[str, str] = {
    "prompt": "the prompt: text or messages",
    "system": "a system message before it",
    "answer": "gold answer",
    "text": "the response's text, or several of them",
    "messages": "the whole conversation, in place of prompt and text",
    "prompt_token_ids": "as the model saw them",
    "response_token_ids": "as sampled",
    "response_mask": "true or 1 where the policy sampled",
    "logprobs": "of the response's tokens; --logprobs says which",
    "finish_reason": "stop, length, tool_calls, aborted or error",
    "reward": "a number; reward.NAME for several",
    "group": "what was sampled together; default: equal prompts of a file",
    "index": "place in the group",
    "model": "who sampled",
    "version": "step or weight version",
    "temperature": "sampling temperature",
    "top_p": "nucleus mass",
    "top_k": "sampling top-k",
    "max_tokens": "limit on response tokens",
    "seed": "the rollout's seed",
    "id": "the row's own id, not to stand twice with other content",
}
_SETTINGS = ("temperature", "top_p", "top_k", "max_tokens", "seed")
_LISTS = {"prompt_token_ids", "response_token_ids", "response_mask", "logprobs"}

Spec = Mapping[str, tuple[str, ...]]


def choose(config: ImportConfig) -> Chosen:
    """The files of an import by `--map`.

    Raises:
        InputError: a field that there is not, or none for the response.
        NotFoundError: no such file.
    """
    if config.format not in (NAME, registry.AUTO):
        raise InputError(
            f"--map goes with format {NAME}, not {config.format}", fix=f"s2d import {NAME} PATH ..."
        )
    spec = parse(config.map)
    importer = Importer(
        NAME,
        "1",
        "any JSONL or Parquet",
        lambda head: head.kind in (".jsonl", ".ndjson", ".parquet"),
        lambda path, name: files.records(path, name, lambda line: _make(spec, line)),
        {field: ", ".join(paths) for field, paths in spec.items()},
        ("fields that are not named: kept in column source",),
    )
    return registry.chosen(importer, config.paths)


def parse(items: Sequence[str]) -> Spec:
    """Field -> paths of the file; several, comma-separated, are several responses.

    Raises:
        InputError: see `choose`.
    """
    spec: dict[str, tuple[str, ...]] = {}
    for item in items:
        field, equals, text = item.partition("=")
        paths = tuple(filter(None, text.split(",")))
        if not equals or not paths:
            raise InputError(f"--map {item!r} is not FIELD=PATH", fix="--map text=generations")
        known = field in FIELDS or (field.startswith("reward.") and field != "reward.")
        if not known:
            raise InputError(
                f"--map {item!r} names an unknown field{did_you_mean(field, FIELDS)}",
                f"there are: {', '.join(FIELDS)}",
            )
        if field in spec:
            raise InputError(f"--map {field} is given twice", "a field has one source")
        spec[field] = paths
    if not spec.keys() & {"text", "messages", "response_token_ids"}:
        raise InputError(
            "no --map says where the response is",
            "text, messages or response_token_ids",
            "--map prompt=problem --map text=generations",
        )
    if not spec.keys() & {"prompt", "messages", "prompt_token_ids"}:
        raise InputError("no --map says where the prompt is", fix="--map prompt=problem")
    return spec


def _make(spec: Spec, line: Line) -> Iterator[Read]:
    row = line.value
    values = {field: _value(row, paths) for field, paths in spec.items()}
    asked, said = _conversation(values)
    n = _count(values, spec)
    used = {path.split(".")[0] for paths in spec.values() for path in paths}
    rest = {name: value for name, value in row.items() if name not in used}
    for part in range(n):
        one = {field: _entry(field, value, part, n, spec) for field, value in values.items()}
        text = one.get("text")
        messages = said
        if isinstance(text, list):
            messages, text = _after(asked, text), text_of(text[-1])
        if text is None and messages is None and one.get("response_token_ids") is None:
            continue
        yield Record(
            file=line.file,
            line=line.number,
            content=line.content,
            part=part,
            key=f"{one['id']}/{part}" if one.get("id") is not None else "",
            size=line.size // n,
            group=(line.file, one["group"] if "group" in one else _asked_of(values)),
            index=one.get("index"),
            asked=asked,
            sampler=Sampler(model=one.get("model"), version=one.get("version")),
            sampling=Sampling(**{name: one.get(name) for name in _SETTINGS}),
            prompt_token_ids=one.get("prompt_token_ids"),
            response_token_ids=one.get("response_token_ids"),
            response_mask=_flags(one.get("response_mask")),
            logprobs=one.get("logprobs"),
            messages=messages,
            text=text if said is None else text_of(said[-1]),
            finish_reason=reason(one.get("finish_reason")),
            rewards=_rewards(one),
            rest=rest if part == 0 else None,
        )


def _after(asked: Asked, said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Prompt and response as one conversation."""
    before = asked.messages or [{"role": "user", "content": asked.text or ""}]
    return [*map(dict, before), *map(_message, said)]


def _asked_of(values: Mapping[str, Any]) -> Any:
    known = (values.get(name) for name in ("prompt", "messages", "prompt_token_ids"))
    return next((value for value in known if value is not None), None)


def _value(row: Mapping[str, Any], paths: tuple[str, ...]) -> Any:
    found = [_reach(row, path) for path in paths]
    return found[0] if len(found) == 1 else found


def _reach(row: Any, path: str) -> Any:
    for name in path.split("."):
        if isinstance(row, list):
            row = row[int(name)]
        elif isinstance(row, Mapping):
            if name not in row:
                raise InputError(f"no field {path!r}", f"its fields are {', '.join(row)}")
            row = row[name]
        else:
            return None
    return row


def _conversation(values: Mapping[str, Any]) -> tuple[Asked, list[dict[str, Any]] | None]:
    """What was asked; and the whole conversation where one field holds it."""
    prompt, whole = values.get("prompt"), values.get("messages")
    said = None
    if whole is not None:
        said = [_message(m) for m in whole]
        last = max((i for i, m in enumerate(said) if m["role"] == "assistant"), default=-1)
        first = next((i for i, m in enumerate(said) if m["role"] == "assistant"), len(said))
        if last < 0:
            raise InputError("the conversation has no message of the assistant's")
        prompt = said[:first]
    if values.get("system"):
        before = {"role": "system", "content": values["system"]}
        plain = isinstance(prompt, str)
        asked = [{"role": "user", "content": prompt}] if plain else map(_message, prompt or ())
        return Asked(messages=[before, *asked], answer=values.get("answer")), said
    if isinstance(prompt, list):
        asked = map(_message, prompt)
        return Asked(messages=list(asked), answer=values.get("answer")), said
    return Asked(text=prompt, answer=values.get("answer")), said


_SPEAKERS = {"human": "user", "gpt": "assistant"}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message, also of the form {from, value}."""
    if "role" not in message and "from" in message:
        role = _SPEAKERS.get(message["from"], message["from"])
        return {"role": role, "content": message["value"]}
    return {name: value for name, value in message.items() if value is not None}


def _count(values: Mapping[str, Any], spec: Spec) -> int:
    """Responses in a row."""
    text, tokens = values.get("text"), values.get("response_token_ids")
    if len(spec.get("text", ())) > 1:
        return len(spec["text"])
    if isinstance(text, list) and not _is_conversation(text):
        return len(text)
    if isinstance(tokens, list) and tokens and isinstance(tokens[0], list):
        return len(tokens)
    return 1


def _is_conversation(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], Mapping)


def _entry(field: str, value: Any, part: int, n: int, spec: Spec) -> Any:
    """A field's value for one response: its entry where it goes along, else the value."""
    if field in ("prompt", "system", "answer", "messages") or not isinstance(value, list):
        return value
    nested = bool(value) and isinstance(value[0], list)
    if field in _LISTS and not nested:
        return value
    if field == "text" and _is_conversation(value) and len(spec["text"]) == 1:
        return value
    if n == 1 and len(value) != 1 and field != "text":
        return value
    if len(value) != n:
        raise InputError(f"{field} has {len(value)} entries for {n} responses")
    return value[part]


def _flags(mask: Sequence[Any] | None) -> list[bool] | None:
    flags = None if mask is None else [bool(flag) for flag in mask]
    return None if flags is None or all(flags) else flags


def _rewards(one: Mapping[str, Any]) -> list[Reward]:
    found = []
    for field, value in one.items():
        if field == "reward" or field.startswith("reward."):
            name = field.partition(".")[2] or "reward"
            if value is not None:
                found.append(Reward(name, value))
    return found
