"""Records of a .jsonl, .parquet or .csv file or of a hub data set, each with where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from s2d_store.errors import InputError, NotFoundError
from s2d_store.prompts import plain_json

Record = tuple[str, dict[str, Any]]

MAX_RECORD_BYTES = 64 << 20
# A Parquet file of a few kilobytes can hold gigabytes: what it unfolds to is bounded.
MAX_ROW_GROUP_BYTES = 4 << 30
MAX_TOTAL_BYTES = 16 << 30
MAX_ROWS = 50_000_000
BATCH_ROWS = 256


def read_records(location: str) -> Iterator[Record]:
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
    readers = {
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".parquet": _read_parquet,
        ".csv": _read_csv,
    }
    if suffix not in readers:
        raise InputError(
            f"{location} is neither .jsonl, .parquet nor .csv", fix="convert it, or rename it"
        )
    try:
        yield from readers[suffix](path)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        # Without its cause, which would be taken for damage of the store.
        raise InputError(f"{location} cannot be read as {suffix[1:]}", reason) from None


def _read_jsonl(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            where = f"{path.name} line {number}"
            if len(line) > MAX_RECORD_BYTES:
                raise InputError(f"{where} is longer than {MAX_RECORD_BYTES:,} bytes")
            if not line.strip():
                continue
            record = plain_json.parse(where, line)
            if not isinstance(record, dict):
                raise InputError(f"{where} is not a JSON object", f"it is {record!r:.60}")
            yield where, record


def _read_csv(path: Path) -> Iterator[Record]:
    frame = pl.read_csv(path, infer_schema=False)
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        yield f"{path.name} row {number}", row


def _read_parquet(path: Path) -> Iterator[Record]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        metadata = file.metadata
        largest = max(
            (metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)),
            default=0,
        )
        if metadata.num_rows > MAX_ROWS or largest > MAX_ROW_GROUP_BYTES:
            raise _too_large(path, f"it declares {metadata.num_rows:,} rows, {largest:,} bytes")
        number = unfolded = 0
        for folded in file.iter_batches(BATCH_ROWS):
            batch = _unfold(folded)
            unfolded += batch.nbytes
            if unfolded > MAX_TOTAL_BYTES or batch.nbytes > MAX_RECORD_BYTES * 16:
                raise _too_large(path, f"it unfolds to more than {unfolded:,} bytes")
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame), "a batch has columns"
            for row in frame.iter_rows(named=True):
                number += 1
                yield f"{path.name} row {number}", row


def _unfold(batch: pa.RecordBatch) -> pa.Table:
    """The batch with dictionary columns as their values: what its rows take in memory."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.table(columns, names=batch.schema.names)


def _too_large(path: Path, why: str) -> InputError:
    return InputError(
        f"{path.name} holds more than prompts take", why, "split it, or give the columns needed"
    )


def _read_hub(name: str) -> Iterator[Record]:
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
