"""A dataset's distinct prompts in the order of their first use, for trainers that sample anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import queries
from s2d_store.datasets.exports.base import Options, Written
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError
from s2d_store.messages import Message, from_stored
from s2d_store.prompts.chat import with_suffix
from s2d_store.sql import connection
from s2d_store.store import Store

BATCH_ROWS = 1000
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True)
class Prompt:
    """One distinct prompt.

    Attributes:
        prompt_id: its id.
        source, split: as imported.
        messages: plain ones, the instruction put behind the user's last.
        tools: tool definitions as JSON; None for none.
        answer: the gold answer; None where it is not labelled.
        first: the dataset's first row that uses it.
    """

    prompt_id: str
    source: str
    split: str
    messages: list[Message]
    tools: str | None
    answer: str | None
    first: int


def prompts(
    store: Store, dataset: LockedDataset, options: Options, written: Written
) -> Iterator[Prompt]:
    """The prompts that the format is to have; what is left out is counted.

    Raises:
        DatasetError: some have no gold answer, and it was not said what to do with these.
        InputError: an instruction, and a prompt without a user's message.
    """
    text = queries.internal("export_prompts")
    with connection.errors():
        found = store.connect(text=text).sql(
            text, params={"dataset_id": dataset.lock.raw["dataset_id"]}
        )
        batches: pa.RecordBatchReader = found.to_arrow_reader(BATCH_ROWS)
        for batch in batches:
            for row in batch.to_pylist():
                if row["answer"] is None and options.unlabelled != "keep":
                    _check_unlabelled(dataset, options)
                    written.drop("unlabelled", 1)
                    continue
                yield _prompt(row, options.instruction)


def _check_unlabelled(dataset: LockedDataset, options: Options) -> None:
    if options.unlabelled == "refuse":
        raise DatasetError(
            f"dataset {dataset.lock.name} has prompts without a gold answer",
            "the trainer's rewards compare with it; distillation without rewards needs none",
            "--unlabelled drop leaves them out, --unlabelled keep writes them with an empty one",
        )


def _prompt(row: Mapping[str, Any], instruction: str) -> Prompt:
    messages = [from_stored(message) for message in row["messages"]]
    messages = with_suffix(f"prompt {row['prompt_id']}", messages, instruction)
    kept = ("prompt_id", "source", "split", "tools", "answer", "first")
    return Prompt(messages=messages, **{name: row[name] for name in kept})


def is_plain(messages: list[Message]) -> bool:
    """Whether messages hold a role and text alone, as Parquet columns of structs do."""
    return all(set(m) == {"role", "content"} and isinstance(m["content"], str) for m in messages)


def write_parquet(
    path: Path, schema: pa.Schema, stream: Iterator[tuple[list[Message], dict[str, Any]]]
) -> tuple[int, int]:
    """Write rows to one Parquet file; returns how many, and how many could not be held.

    Args:
        path: the file.
        schema: of the rows.
        stream: of each row its messages, which must be plain, and all its columns.
    """
    rows, refused, waiting = 0, 0, list[dict[str, Any]]()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for messages, row in stream:
            if not is_plain(messages):
                refused += 1
                continue
            waiting.append(row)
            if len(waiting) == BATCH_ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                rows, waiting = rows + len(waiting), []
        writer.write_table(pa.Table.from_pylist(waiting, schema))
    return rows + len(waiting), refused
