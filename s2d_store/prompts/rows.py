"""One record of an input as one row of table prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from s2d_store import ids
from s2d_store.errors import InputError
from s2d_store.messages import to_stored
from s2d_store.prompts import chat, plain_json
from s2d_store.prompts.gold import read_gold

PROMPT_FIELDS = ("messages", "prompt", "question", "problem")
ANSWER_FIELDS = ("answer", "gold", "target")


@dataclass(frozen=True)
class PromptOptions:
    """How records become prompts.

    Attributes:
        source: stored with every prompt, e.g. gsm8k.
        split: stored with every prompt, e.g. train.
        prompt_field: the field with the text or the chat messages; dots reach into objects;
            empty takes the first of PROMPT_FIELDS that is there.
        answer_field: the gold answer's field; empty takes the first of ANSWER_FIELDS, `none`
            stores unlabelled prompts.
        system: a system message put first, in place of one that is there; empty for none.
        suffix: text put behind the last message of the user's, e.g. an answer format.
        skip_duplicates: keep the first of equal prompts in the input.
    """

    source: str
    split: str = "train"
    prompt_field: str = ""
    answer_field: str = ""
    system: str = ""
    suffix: str = ""
    skip_duplicates: bool = False


def to_row(where: str, record: Mapping[str, Any], options: PromptOptions) -> dict[str, Any]:
    """One record as a row of table prompts.

    Field `tools` is kept where it is a list of tool definitions (or JSON text of one), `task` where
    it is an object; what no column holds goes into `meta`.

    Raises:
        InputError: names `where`: the named or usual field is not there, holds no prompt or no
            answer, or something cannot be stored.
    """
    plain_json.check(where, record)
    prompt_field = options.prompt_field or _first(record, PROMPT_FIELDS)
    answer_field = options.answer_field or _first(record, ANSWER_FIELDS)
    value = _field(record, prompt_field) if prompt_field else None
    if value is None:
        raise InputError(
            f"{where} has no field {options.prompt_field or ' or '.join(PROMPT_FIELDS)!r}",
            f"its fields are {', '.join(map(str, record))}",
            "--prompt-field NAME",
        )
    messages = chat.read_messages(where, value)
    messages = chat.with_suffix(where, messages, options.suffix)
    stored = [to_stored(m) for m in chat.with_system(where, messages, options.system)]
    used = {prompt_field.split(".")[0], answer_field.split(".")[0]}
    answer = None
    if answer_field and answer_field != "none":
        answer = _field(record, answer_field)
        if answer is None and options.answer_field and not _has(record, answer_field):
            raise InputError(
                f"{where} has no field {options.answer_field!r}",
                f"its fields are {', '.join(map(str, record))}",
                "--answer-field NAME, or --answer-field none for unlabelled prompts",
            )
    gold = read_gold(where, answer)
    tools = task = None
    if "tools" not in used and (tools := chat.read_tools(where, record.get("tools"))):
        used.add("tools")
    if "task" not in used and isinstance(record.get("task"), Mapping) and record["task"]:
        task = plain_json.dump(where, record["task"])
        used.add("task")
    return {
        "prompt_id": ids.prompt_id(stored, tools),
        "source": options.source,
        "split": options.split,
        "messages": stored,
        "tools": tools,
        "answer": gold.answer,
        "answer_type": gold.type,
        "answers": None if gold.answers is None else list(gold.answers),
        "task": task,
        "meta": plain_json.dump(where, {k: v for k, v in record.items() if k not in used}),
        "created_at": datetime.now(UTC),
    }


def _field(record: Mapping[str, Any], name: str) -> Any:
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _has(record: Mapping[str, Any], name: str) -> bool:
    outer, _, last = name.rpartition(".")
    holder = _field(record, outer) if outer else record
    return isinstance(holder, Mapping) and last in holder


def _first(record: Mapping[str, Any], usual: Sequence[str]) -> str:
    return next((name for name in usual if name in record), "")
