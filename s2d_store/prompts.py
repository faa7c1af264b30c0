"""Prompts in: JSONL, Parquet, CSV or a hub data set, checked whole before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from s2d_store import ids
from s2d_store.errors import InputError, NotFoundError
from s2d_store.schema import TABLES
from s2d_store.store import Store

PROMPT_FIELDS = ("messages", "prompt", "question", "problem")
ANSWER_FIELDS = ("answer", "gold", "target")
GSM8K_MARK = "####"


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
        system: a system message put first; empty for none.
        suffix: text put behind the prompt's last user message, e.g. an answer format.
        skip_duplicates: keep the first of equal prompts in the input.
    """

    source: str
    split: str = "train"
    prompt_field: str = ""
    answer_field: str = ""
    system: str = ""
    suffix: str = ""
    skip_duplicates: bool = False


@dataclass(frozen=True)
class Added:
    """What `add` did: prompts stored now, there before, skipped as duplicates, and labelled."""

    added: int
    present: int
    duplicates: int
    labelled: int


def read_records(location: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(where, record)` from a .jsonl, .parquet or .csv file, or from `hf:name[:split]`.

    Raises:
        NotFoundError: the file or data set does not exist or cannot be reached.
        InputError: another kind of file, or a line that is not a JSON object.
    """
    if location.startswith("hf:"):
        yield from _read_hub(location[3:])
        return
    path = Path(location)
    if not path.is_file():
        raise NotFoundError(f"no file {location}", fix="name a .jsonl, .parquet or .csv file")
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from _read_jsonl(path)
    elif suffix in (".parquet", ".csv"):
        try:
            frame = (
                pl.read_parquet(path)
                if suffix == ".parquet"
                else pl.read_csv(path, infer_schema=False)
            )
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"{location} cannot be read as {suffix[1:]}", str(error)) from error
        for number, row in enumerate(frame.iter_rows(named=True), 1):
            yield f"{path.name} row {number}", row
    else:
        raise InputError(
            f"{location} is neither .jsonl, .parquet nor .csv", fix="convert it, or rename it"
        )


def _read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path.name} line {number}"
            try:
                record = json.loads(line)
            except UnicodeDecodeError as error:
                raise InputError(f"{where} is not UTF-8", str(error)) from error
            except json.JSONDecodeError as error:
                raise InputError(f"{where} is not JSON", str(error)) from error
            if not isinstance(record, dict):
                raise InputError(f"{where} is not a JSON object", f"it is {record!r:.60}")
            yield where, record


def _read_hub(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import datasets
    except ImportError as error:
        raise NotFoundError(
            f"hf:{name} needs the datasets library", fix='pip install "s2d[hub]"'
        ) from error
    repo, _, split = name.partition(":")
    try:
        rows: Iterable[dict[str, Any]] = datasets.load_dataset(repo, split=split or "train")
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"hf:{name} cannot be loaded",
            str(error).splitlines()[0],
            "check the name and the network, or download it and add the file",
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"{name} row {number}", row


def gold_answer(text: str) -> str:
    """The gold answer itself: GSM8K's solutions carry it behind the last `####`."""
    return text.rpartition(GSM8K_MARK)[2].strip() if GSM8K_MARK in text else text.strip()


def _field(record: Mapping[str, Any], name: str) -> Any:
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _choose(record: Mapping[str, Any], asked: str, usual: Sequence[str]) -> str:
    return asked or next((name for name in usual if name in record), "")


def _messages(where: str, value: Any, options: PromptOptions) -> list[dict[str, str]]:
    if isinstance(value, str) and value.strip():
        messages = [{"role": "user", "content": value}]
    elif isinstance(value, Sequence) and value and all(_is_message(m) for m in value):
        messages = [{"role": m["role"], "content": m["content"]} for m in value]
    else:
        raise InputError(
            f"{where}: the prompt is {str(value)[:60]!r}",
            "a prompt is non-empty text or a list of {role, content} messages",
            "--prompt-field NAME",
        )
    if options.suffix:
        messages[-1]["content"] += options.suffix
    system = [{"role": "system", "content": options.system}] if options.system else []
    return system + messages


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(value.get(key), str) for key in ("role", "content")
    )


def to_row(where: str, record: Mapping[str, Any], options: PromptOptions) -> dict[str, Any]:
    """One record as a row of table prompts.

    Raises:
        InputError: the named or usual field is not there, or holds no prompt.
    """
    prompt_field = _choose(record, options.prompt_field, PROMPT_FIELDS)
    answer_field = _choose(record, options.answer_field, ANSWER_FIELDS)
    value = _field(record, prompt_field) if prompt_field else None
    if value is None:
        raise InputError(
            f"{where} has no field {options.prompt_field or ' or '.join(PROMPT_FIELDS)!r}",
            f"its fields are {', '.join(map(str, record))}",
            "--prompt-field NAME",
        )
    messages = _messages(where, value, options)
    answer = None
    if answer_field and answer_field != "none":
        answer = _field(record, answer_field)
        if answer is None and options.answer_field:
            raise InputError(
                f"{where} has no field {options.answer_field!r}",
                f"its fields are {', '.join(map(str, record))}",
                "--answer-field NAME, or --answer-field none for unlabelled prompts",
            )
    used = {prompt_field.split(".")[0], answer_field.split(".")[0]}
    return {
        "prompt_id": ids.prompt_id(messages),
        "source": options.source,
        "split": options.split,
        "messages": messages,
        "answer": None if answer is None else gold_answer(str(answer)),
        "answer_type": "none" if answer is None else "text",
        "meta": json.dumps(
            {k: v for k, v in record.items() if k not in used}, default=str, ensure_ascii=False
        ),
        "created_at": datetime.now(UTC),
    }


def add(
    store: Store, records: Iterable[tuple[str, dict[str, Any]]], options: PromptOptions
) -> Added:
    """Check every record, then store the new prompts in one commit.

    Raises:
        InputError: a record without its field, the same prompt twice in the input, or a prompt
            that is stored with another answer or split. Nothing is stored then.
    """
    rows: dict[str, dict[str, Any]] = {}
    first_at: dict[str, str] = {}
    duplicates = 0
    for where, record in records:
        row = to_row(where, record, options)
        key = row["prompt_id"]
        if key in rows:
            if not options.skip_duplicates:
                raise InputError(
                    f"{where} repeats the prompt of {first_at[key]}",
                    f"{row['messages'][-1]['content'][:60]!r} would count twice in every budget",
                    "--skip-duplicates keeps the first",
                )
            duplicates += 1
            continue
        rows[key], first_at[key] = row, where
    if not rows:
        raise InputError("the input holds no prompts")
    _check_stored(store, rows, first_at)
    table = pa.Table.from_pylist(list(rows.values()), schema=TABLES["prompts"].schema)
    added = store.commit({"prompts": table})["prompts"]
    labelled = sum(row["answer"] is not None for row in rows.values())
    return Added(added, len(rows) - added, duplicates, labelled)


def _check_stored(
    store: Store, rows: Mapping[str, dict[str, Any]], first_at: Mapping[str, str]
) -> None:
    stored = store.sql("SELECT prompt_id, answer, split FROM prompts").fetchall()
    for key, answer, split in stored:
        row = rows.get(key)
        if row and (row["answer"], row["split"]) != (answer, split):
            raise InputError(
                f"the prompt of {first_at[key]} is stored already, in another form",
                f"stored: answer {answer!r}, split {split!r}; "
                f"now: answer {row['answer']!r}, split {row['split']!r}",
                "stored prompts never change: leave it out, or correct the split or answer",
            )
