"""Export a locked dataset for other trainers, streamed in bounded memory, whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.datasets.locate import locate, locate_prompts, source
from s2d_store.datasets.open import open_dataset
from s2d_store.datasets.parts import tables
from s2d_store.datasets.read import LockedDataset
from s2d_store.datasets.verify import plan_of
from s2d_store.errors import DatasetError, InputError, StoreError
from s2d_store.messages import Message, from_stored, text_of
from s2d_store.sql import connection
from s2d_store.storage.reserved_paths import refuse_store_path
from s2d_store.store import Store
from s2d_store.tables.fetch_rows import Source, fetch_rows

# Bytes of a rollout's text a token, and of a prompt's: to size what is held in memory at once.
_TEXT_BYTES, _MESSAGES_BYTES = 6, 2_000
VERL_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
VERL_SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", VERL_MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("split", pa.string()),
                    ("index", pa.int64()),
                    ("prompt_id", pa.string()),
                    ("dataset", pa.string()),
                ]
            ),
        ),
    ]
)


def export(store: Store, name: str, format_: str, output: Path, ability: str = "math") -> int:
    """Write a dataset to one file; returns its rows. Nothing is left of an export that fails.

    Args:
        store: the store.
        name: a dataset whose files are there.
        format_: one of FORMATS: `parquet`, the dataset's own columns and rows; `trl-jsonl`, prompt
            and completion as messages; `trl-text-jsonl`, both as text, without a chat template;
            `verl`, its Parquet form, one row per distinct prompt in the order of first use.
        output: the file; one that exists is replaced.
        ability: what verl's column of that name says.

    Raises:
        NotFoundError: there is none of that name.
        DatasetError: its lock or files were changed, or verl's form lacks gold answers.
        InputError: an unknown format, or a file among the store's own.
        StoreError: the file cannot be written.
    """
    if format_ not in FORMATS:
        raise InputError(
            f"export format {format_!r} is unknown",
            f"formats: {', '.join(FORMATS)}",
            "--format parquet",
        )
    dataset = open_dataset(store, name)
    with _whole(refuse_store_path(store.root, output)) as draft:
        return FORMATS[format_](store, dataset, draft, ability)


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A draft beside the output, which takes its name once it is complete and on disk."""
    draft = output.with_name(f".{output.name}.{uuid.uuid4().hex}.draft")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(output)
    except OSError as error:
        raise StoreError(
            f"cannot write {output}: {error.strerror or error}",
            "the dataset is unchanged, and no part of the export is left",
            "free disk space, or choose another --output",
        ) from error
    finally:
        if draft.exists():
            draft.unlink()


def _parquet(store: Store, dataset: LockedDataset, draft: Path, ability: str) -> int:
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for table in _tables(store, dataset):
            writer = writer or pq.ParquetWriter(draft, table.schema, compression="zstd")
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer:
            writer.close()
    return rows


def _tables(store: Store, dataset: LockedDataset) -> Iterator[pa.Table]:
    """Every column of each row, in training order; each file is read once."""
    if dataset.lock.sources:
        made = plan_of(store, dataset.lock.raw, dataset.lock.raw["versions"])
        yield from tables(made)
        return
    for path, _, _ in dataset.lock.files:
        with pq.ParquetFile(dataset.folder / path) as part:
            for group in range(part.num_row_groups):
                yield part.read_row_group(group)


def _trl(store: Store, dataset: LockedDataset, draft: Path, ability: str) -> int:
    def line(messages: list[Mapping[str, Any]], text: str) -> Mapping[str, Any]:
        return {
            "prompt": [from_stored(m) for m in messages],
            "completion": [{"role": "assistant", "content": text}],
        }

    return _lines(store, dataset, draft, line)


def _trl_text(store: Store, dataset: LockedDataset, draft: Path, ability: str) -> int:
    def line(messages: list[Mapping[str, Any]], text: str) -> Mapping[str, Any]:
        return {"prompt": "\n\n".join(text_of(m) for m in messages), "completion": text}

    return _lines(store, dataset, draft, line)


def _lines(
    store: Store,
    dataset: LockedDataset,
    draft: Path,
    line: Callable[[list[Mapping[str, Any]], str], Mapping[str, Any]],
) -> int:
    rows = 0
    with draft.open("w", encoding="utf-8") as file:
        for table in _texts(store, dataset):
            messages, texts = table.column("messages"), table.column("response_text")
            for start in range(0, table.num_rows, 1000):
                pairs = zip(
                    messages.slice(start, 1000).to_pylist(),
                    texts.slice(start, 1000).to_pylist(),
                    strict=True,
                )
                file.writelines(
                    json.dumps(line(prompt, text), ensure_ascii=False) + "\n"
                    for prompt, text in pairs
                )
            rows += table.num_rows
    return rows


def _texts(store: Store, dataset: LockedDataset) -> Iterator[pa.Table]:
    """Columns messages and response_text of each row, in training order, a bucket at a time."""
    snap = store.snapshot()
    con = store.connect(snap)
    with connection.errors():
        selected = con.sql(
            "SELECT row, rollout_id FROM dataset_rows WHERE dataset_id = $id ORDER BY row",
            params={"id": dataset.lock.raw["dataset_id"]},
        ).to_arrow_table()
    located = locate(con, snap, selected, has_topk=False)
    if located.num_rows < dataset.lock.counts["rows"]:
        raise DatasetError(
            f"the store lacks rollouts of dataset {dataset.lock.name}",
            f"it has {located.num_rows} of {dataset.lock.counts['rows']} rows",
            f"s2d dataset verify {dataset.lock.name}",
        )
    numbers = located.select(["row", "prompt_id"])
    prompts = locate_prompts(con, snap, numbers)
    sources: list[Source] = [
        source(located, "rollout", snap.files["rollouts"], ("response_text",)),
        source(prompts, "prompt", snap.files["prompts"], ("messages",)),
    ]
    tokens = located.column("response_tokens").to_numpy().astype(np.int64)
    for _, table in fetch_rows(sources, tokens * _TEXT_BYTES + _MESSAGES_BYTES):
        yield table


def _verl(store: Store, dataset: LockedDataset, draft: Path, ability: str) -> int:
    con = store.connect()
    with connection.errors():
        relation = con.sql(
            "SELECT p.source, p.messages, p.answer, p.split, d.first, p.prompt_id "
            "FROM (SELECT prompt_id, min(row) AS first FROM dataset_rows WHERE dataset_id = $id "
            "GROUP BY prompt_id) AS d JOIN prompts AS p USING (prompt_id) ORDER BY d.first",
            params={"id": dataset.lock.raw["dataset_id"]},
        )
        batches: pa.RecordBatchReader = relation.to_arrow_reader(10_000)
        rows = 0
        with pq.ParquetWriter(draft, VERL_SCHEMA, compression="zstd") as writer:
            for batch in batches:
                rows += batch.num_rows
                writer.write_batch(_verl_batch(batch, dataset.lock.name, ability))
    return rows


def _plain(messages: pa.Array) -> list[list[Message]]:
    return [[from_stored(message) for message in prompt] for prompt in messages.to_pylist()]


def _verl_batch(batch: pa.RecordBatch, dataset: str, ability: str) -> pa.RecordBatch:
    n, answers = batch.num_rows, batch.column("answer")
    if answers.null_count:
        raise DatasetError(
            f"dataset {dataset} has prompts without a gold answer",
            "verl's rule reward compares with reward_model.ground_truth",
            "export as trl-jsonl, or build from labelled prompts",
        )
    reward_model, extra_info = (VERL_SCHEMA.field(f).type for f in ("reward_model", "extra_info"))
    columns = {
        "data_source": batch.column("source"),
        "prompt": pa.array(_plain(batch.column("messages")), VERL_MESSAGES),
        "ability": pa.repeat(pa.scalar(ability), n),
        "reward_model": pa.StructArray.from_arrays(
            [pa.repeat(pa.scalar("rule"), n), answers], fields=list(reward_model)
        ),
        "extra_info": pa.StructArray.from_arrays(
            [
                batch.column("split"),
                batch.column("first"),
                batch.column("prompt_id"),
                pa.repeat(pa.scalar(dataset), n),
            ],
            fields=list(extra_info),
        ),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=VERL_SCHEMA)


FORMATS: Mapping[str, Callable[[Store, LockedDataset, Path, str], int]] = {
    "parquet": _parquet,
    "trl-jsonl": _trl,
    "trl-text-jsonl": _trl_text,
    "verl": _verl,
}
