"""Is a damaged file behind an error? Readers name what they stumble over in words of their own."""

from __future__ import annotations

import re

import duckdb
import pyarrow as pa
from deltalake.exceptions import DeltaError

from s2d_store.errors import StoreError
from s2d_store.maintenance.examine import examine
from s2d_store.maintenance.file_health import line
from s2d_store.store import Store

_FIX = "s2d doctor, which says what is lost and how to make it again"
_WORDS = re.compile(
    r"parquet|corrupt|thrift|zstd|mismatch in .* read|page integrity", re.IGNORECASE
)


def diagnose_file_error(error: BaseException, store: Store) -> StoreError | None:
    """The damage that an error speaks of, by file where sizes and footers tell; None for none.

    Hashes are not compared here: that reads the whole store, which is the user's to ask for.
    """
    cause: BaseException | None = error
    while cause is not None and not _speaks_of_files(cause, store):
        cause = cause.__cause__
    if cause is None:
        return None
    report = examine(store, full=False)
    named = [f"{d.file.path}: {d.what}" for d in report.damages] + list(report.faults)
    if named:
        return StoreError(f"a file of the store is damaged: {named[0]}", line(cause), _FIX)
    if _WORDS.search(str(cause)):
        return StoreError("a file of the store cannot be read", line(cause), _FIX)
    return None


def _speaks_of_files(error: BaseException, store: Store) -> bool:
    # A file of the user's, as one that a command was to read, is none of the store's.
    if isinstance(error, OSError) and error.filename is not None:
        return store.backend.contains(store.root, str(error.filename))
    # What DuckDB's Parquet reader throws by itself (thrift, zstd) is of the bare base class.
    return type(error) is duckdb.Error or isinstance(
        error,
        OSError
        | pa.ArrowException
        | UnicodeDecodeError
        | DeltaError
        | duckdb.IOException
        | duckdb.InvalidInputException
        | duckdb.InternalException,
    )
