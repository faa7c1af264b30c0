"""What of Delta's protocol s2d reads and writes, and the refusal of everything else.

Another writer can switch on features that change what the files of a table mean: deletion vectors
hide rows, column mapping renames columns. Reading past them would show deleted rows, and compacting
would double them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from s2d_store.errors import StoreError
from s2d_store.schema import Table

READER, WRITER = 1, 2
# Pinned versions must stay readable until the user vacuums, so Delta never expires its own log.
# Opening a table reads the newest checkpoint and the commits since (benchmarks/commits.py).
CONFIGURATION = {
    "delta.checkpointInterval": "50",
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
}
# Settings that change the meaning of no file.
_HARMLESS = (
    *CONFIGURATION,
    "delta.autoOptimize",
    "delta.checkpoint.",
    "delta.dataSkipping",
    "delta.enableExpiredLogCleanup",
    "delta.randomizeFilePrefixes",
    "delta.setTransactionRetentionDuration",
    "delta.targetFileSize",
    "delta.tuneFileSizesForRewrites",
)
_OFF = ("false", "none", "")


def first_actions(
    declared: Table, table_id: str, created_ms: int, properties: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The actions that make an empty table.

    Args:
        declared: its columns and partitions.
        table_id: a new UUID.
        created_ms: milliseconds since 1970.
        properties: to note beside the configuration.
    """
    from deltalake import Schema

    schema: pa.Schema = declared.schema
    return [
        {"protocol": {"minReaderVersion": READER, "minWriterVersion": WRITER}},
        {
            "metaData": {
                "id": table_id,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": Schema.from_arrow(schema).to_json(),
                "partitionColumns": list(declared.partition_by),
                "configuration": {**CONFIGURATION, **properties},
                "createdTime": created_ms,
            }
        },
    ]


def check(table: str, action: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Refuse an action that switches on, or uses, what s2d does not know.

    Raises:
        StoreError: it does.
    """
    features = list(_features(action))
    if features:
        raise StoreError(
            f"table {table} uses features of Delta that s2d does not: {', '.join(features)}",
            "another writer switched them on; s2d would read rows that it deleted, or write what "
            "it cannot read, and touches nothing",
            f"read tables/{table} with the engine that wrote it (delta-rs, Spark), and export what "
            "you need; or restore its _delta_log from a copy",
        )


def _features(action: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    protocol, meta, add = action.get("protocol"), action.get("metaData"), action.get("add")
    if protocol:
        reader, writer = protocol.get("minReaderVersion"), protocol.get("minWriterVersion")
        if reader != READER or writer != WRITER:
            yield f"protocol of reader version {reader} and writer version {writer}"
        named = {*(protocol.get("readerFeatures") or ()), *(protocol.get("writerFeatures") or ())}
        yield from sorted(named)
    if meta:
        for name, value in dict(meta.get("configuration") or {}).items():
            is_off = str(value).lower() in _OFF
            if name.startswith("delta.") and not name.startswith(_HARMLESS) and not is_off:
                yield f"{name} = {value}"
        if "delta.columnMapping" in json.dumps(meta.get("schemaString") or ""):
            yield "column mapping"
    if add and add.get("deletionVector"):
        yield "deletion vectors"
