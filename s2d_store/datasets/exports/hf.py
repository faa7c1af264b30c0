"""`hf`: a folder that `datasets.load_dataset` opens and the Hub's viewer shows, with a card.

Rows are those of format `tokens`, with the prompt's messages and the response's text beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from s2d_store.datasets.exports import card
from s2d_store.datasets.exports.base import Exporter, Options, Written
from s2d_store.datasets.exports.rows import facts, side_by_side
from s2d_store.datasets.exports.texts import text_tables
from s2d_store.datasets.exports.tokens import order_settings, token_tables
from s2d_store.datasets.read import LockedDataset
from s2d_store.store import Store
from s2d_store.tables import parquet_writer

FILE_BYTES = 256 << 20
_TEXT = ("messages", "tools", "response_text")


def write(store: Store, dataset: LockedDataset, draft: Path, options: Options) -> Written:
    """A folder with data/train-*.parquet and README.md; see `Write`."""
    written = Written(settings=order_settings(dataset))
    written.rows = write_split(draft / "data", "train", viewer_rows(store, dataset))
    text = card.of_dataset(
        dataset, [card.Config("default", "data/train-*.parquet")], options.license
    )
    (draft / "README.md").write_text(text, encoding="utf-8")
    return written


def viewer_rows(store: Store, dataset: LockedDataset) -> Iterator[pa.Table]:
    """A dataset's rows with text and tokens, all lists plain, in training order."""
    known = text_tables(store, dataset, facts(store, dataset))
    text = (table.select(_TEXT) for table in known)
    for table in side_by_side(token_tables(store, dataset), text):
        yield table.select([*_TEXT, *(n for n in table.column_names if n not in _TEXT)])


def write_split(folder: Path, split: str, stream: Iterator[pa.Table]) -> int:
    """Write a stream as files SPLIT-NNNNN-of-MMMMM.parquet of bounded size; returns its rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, drafts = 0, list[Path]()
    for table in stream:
        pieces = max(1, -(-table.nbytes // FILE_BYTES))
        size = -(-table.num_rows // pieces)
        for first in range(0, table.num_rows, max(1, size)):
            path = folder / f"{len(drafts):05d}.draft"
            part = table.slice(first, size)
            parquet_writer.write(path, [part], part.schema)
            drafts.append(path)
        rows += table.num_rows
    for number, path in enumerate(drafts):
        path.rename(folder / f"{split}-{number:05d}-of-{len(drafts):05d}.parquet")
    return rows


EXPORTER = Exporter(
    "hf",
    "a folder with text, ids and top-k that load_dataset opens, with a card",
    write,
    form="folder",
    options=("license",),
)
