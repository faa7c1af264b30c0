"""How Parquet files are written: encodings, compression and row groups, in one place.

BYTE_STREAM_SPLIT + zstd on number lists is what makes top-k small (DESIGN section 4).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2d_store.schema import FILES_ALONE

ZSTD_LEVEL = 3
# Ids of a top-k repeat nothing that zstd could find: level 3 takes longer and gives more bytes.
# Of a dataset's logprobs, level 3 takes a third longer and saves 1% of the bytes.
FAST_ZSTD_LEVEL = 1
FAST_COLUMNS = ("token_ids", "topk_token_ids", "topk_logprobs", *FILES_ALONE["topk"])
# A trainer reads single rows by reference: a row of 8,192 tokens and k = 64 fills a group.
ROW_GROUP_BYTES = 4 << 20
PAGE_BYTES = 4 << 20
# Values handed over at a time: Parquet's own 1,024 cost a quarter of the time to write lists.
BATCH_VALUES = 1 << 18


def _is_number_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type_)
        and (pa.types.is_integer(type_.value_type) or pa.types.is_floating(type_.value_type))
    )


def writer_options(schema: pa.Schema) -> dict[str, Any]:
    """Options for `pq.ParquetWriter`: split bytes of number lists, dictionaries for the rest."""
    number_lists = [f.name for f in schema if _is_number_list(f.type)]
    levels = {
        leaf: FAST_ZSTD_LEVEL if leaf.split(".")[0] in FAST_COLUMNS else ZSTD_LEVEL
        for field in schema
        for leaf in _leaves(field.name, field.type)
    }
    return {
        "compression": "zstd",
        "compression_level": levels,
        "use_byte_stream_split": [f"{name}.list.element" for name in number_lists],
        "use_dictionary": [f.name for f in schema if pa.types.is_string(f.type)],
        # Of binary values they would copy whole ones into the footer.
        "write_statistics": [
            f.name for f in schema if not (pa.types.is_nested(f.type) or pa.types.is_binary(f.type))
        ],
        "data_page_size": PAGE_BYTES,
        "write_batch_size": BATCH_VALUES,
        # Readers compare them: zstd frames hold no checksum, and most flipped bits decode.
        "write_page_checksum": True,
        "store_schema": True,
    }


def _leaves(path: str, type_: pa.DataType) -> Iterator[str]:
    """Paths of a column's leaves as Parquet names them."""
    if pa.types.is_list(type_):
        yield from _leaves(f"{path}.list.element", type_.value_type)
    elif pa.types.is_struct(type_):
        for i in range(type_.num_fields):
            yield from _leaves(f"{path}.{type_.field(i).name}", type_.field(i).type)
    else:
        yield path


def rows_per_group(table: pa.Table) -> int:
    """Rows that make a row group of about ROW_GROUP_BYTES, at least one."""
    if table.num_rows == 0:
        return 1
    return max(1, int(ROW_GROUP_BYTES / max(1.0, plain_bytes(table) / table.num_rows)))


def plain_bytes(table: pa.Table) -> int:
    """Bytes that rows take in memory once they are read: of top-k, an id and a logprob for each
    byte of its codes.
    """
    n_bytes = int(table.nbytes)
    if "rank_codes" in table.column_names:
        entries = pc.sum(pc.binary_length(table.column("rank_codes"))).as_py() or 0
        n_bytes = max(n_bytes, 8 * entries)
    return n_bytes


def write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Write tables to one file, flushed to disk before return; returns its size in bytes."""
    with pq.ParquetWriter(path, schema, **writer_options(schema)) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=rows_per_group(table))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_size
