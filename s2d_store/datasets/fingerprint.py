"""Fingerprint of ordered rows: the same rows in the same order, however they are chunked or
encoded, give the same digest; one changed bit, token or place gives another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Fingerprint:
    """Feed tables in row order, then read `hexdigest`. Floats enter by their bytes.

    Every column has hashers of its own for values, list or string lengths, and nulls, so that
    chunk borders leave no trace.
    """

    def __init__(self, schema: pa.Schema) -> None:
        """Start over rows of one schema; names and types of the columns enter the digest."""
        self.schema = schema
        self._hashers = {
            (field.name, part): hashlib.blake2b(digest_size=16)
            for field in schema
            for part in ("nulls", "lengths", "values")
        }

    def update(self, table: pa.Table) -> None:
        """Add the next rows."""
        for field in self.schema:
            for chunk in table.column(field.name).chunks:
                self._add(field.name, chunk)

    def _add(self, name: str, array: pa.Array) -> None:
        self._feed(name, "nulls", array.is_valid())
        if pa.types.is_list(array.type):
            self._feed(name, "lengths", pc.fill_null(pc.list_value_length(array), 0))
            self._feed(name, "values", array.flatten())
        elif pa.types.is_string(array.type):
            array = pc.fill_null(array, "").cast(pa.binary())
            self._feed(name, "lengths", pc.binary_length(array))
            offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset :]
            data = array.buffers()[2]
            if data is not None:
                start, end = int(offsets[0]), int(offsets[len(array)])
                self._hashers[name, "values"].update(memoryview(data)[start:end])
        else:
            self._feed(name, "values", array)

    def _feed(self, name: str, part: str, values: pa.Array) -> None:
        if values.null_count:
            values = pc.fill_null(values, pa.scalar(0).cast(values.type))
        data = np.ascontiguousarray(values.to_numpy(zero_copy_only=False))
        self._hashers[name, part].update(data.view(np.uint8).data)

    def hexdigest(self) -> str:
        """32 hex characters over all columns."""
        total = hashlib.blake2b(digest_size=16)
        for field in self.schema:
            total.update(f"{field.name}:{type_name(field.type)}\n".encode())
            for part in ("nulls", "lengths", "values"):
                total.update(self._hashers[field.name, part].digest())
        return total.hexdigest()


def type_name(type_: pa.DataType) -> str:
    """A type as text, the same for lists whose items Parquet and Arrow name differently."""
    return f"list<element: {type_.value_type}>" if pa.types.is_list(type_) else str(type_)


def of_tables(tables: Iterable[pa.Table]) -> str:
    """Fingerprint of all rows of some tables, of one schema; at least one table."""
    fingerprint: Fingerprint | None = None
    for table in tables:
        fingerprint = fingerprint or Fingerprint(table.schema)
        fingerprint.update(table)
    assert fingerprint is not None, "there are rows"
    return fingerprint.hexdigest()


def of_light_rows(light: pa.Table, columns: Sequence[str]) -> str:
    """Fingerprint of a dataset by its light rows, which name whose tokens and scores they hold.

    A store never changes a fact: a rollout, and the scores that a scorer, support and k name, are
    the same wherever their files lie. So the same rows have the same digest, before and after a
    compaction, by reference and in parts; that their bytes are the ones that were written is told
    by the hashes in the names of the files, or of the parts.

    Args:
        light: the light columns with prompt_tokens and response_tokens, in training order.
        columns: `name: type` of all columns of the dataset.
    """
    total = hashlib.blake2b(digest_size=16)
    total.update(of_tables([light]).encode())
    total.update("\n".join(columns).encode())
    return total.hexdigest()
