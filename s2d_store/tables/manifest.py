"""`s2d.json`, which makes a folder a store: its format and its identity.

The first commit of each table says the same, so a manifest that is torn is made again from there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from s2d_store.errors import StoreError
from s2d_store.schema import FORMAT_VERSION, TABLES
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import delta_log

MANIFEST = "s2d.json"
_FORMAT, _ID, _CREATED = "s2d.formatVersion", "s2d.storeId", "s2d.createdAt"


def new() -> dict[str, Any]:
    """The manifest of a new store."""
    return {
        "format": "s2d",
        "format_version": FORMAT_VERSION,
        "store_id": uuid.uuid4().hex,
        "created_at": datetime.now(UTC).isoformat(),
    }


def properties(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What each table's first commit says of the store."""
    return {
        _FORMAT: str(manifest["format_version"]),
        _ID: manifest["store_id"],
        _CREATED: manifest["created_at"],
    }


def text(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it is written."""
    return (json.dumps(manifest, indent=2) + "\n").encode()


def read(root: Place) -> dict[str, Any]:
    """The manifest of a store; a torn one is made again.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is torn, and no table says what it held.
        OSError: it cannot be read.
    """
    data = (root / MANIFEST).read_bytes()
    try:
        found = json.loads(data)
        if isinstance(found, dict) and isinstance(found.get("format_version"), int):
            return found
    except (ValueError, RecursionError):
        pass
    made = _from_tables(root)
    if made is None:
        raise StoreError(
            f"{root / MANIFEST} cannot be read",
            "it is empty, cut short or damaged, and no table's first commit says what it held",
            "restore it from a copy, or write "
            f'{{"format": "s2d", "format_version": {FORMAT_VERSION}}} into it',
        )
    with suppress(OSError):  # who only reads may not be able to
        backend_of(root).replace(root / MANIFEST, text(made))
    return made


def _from_tables(root: Place) -> dict[str, Any] | None:
    for name in TABLES:
        with suppress(OSError, StoreError, KeyError, ValueError):
            ((_, actions),) = delta_log.read_commits(root / "tables" / name, [0])
            said = next(a["metaData"] for a in actions if "metaData" in a)["configuration"]
            return {
                "format": "s2d",
                "format_version": int(said[_FORMAT]),
                "store_id": said[_ID],
                "created_at": said[_CREATED],
            }
    return None
