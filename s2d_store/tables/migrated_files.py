"""Which file a migration wrote in place of which: so older versions of a table stay readable.

A version before the migration names files of the older format. Each of them was rewritten one to
one, so the version is read from the rewritten files, and the older ones may go. The names stand in
the table's log folder, where readers of Delta ignore what they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables.delta_log import FileLifetime

NAME = "_s2d_migrated.json"


def write(folder: Place, renamed: Mapping[str, str]) -> None:
    """Note for a table which path, relative to its folder, took the place of which."""
    data = json.dumps(dict(renamed), indent=0).encode()
    backend_of(folder).replace(folder / "_delta_log" / NAME, data)


def read(folder: Place) -> dict[str, str]:
    """New path by old path; empty where the table was never migrated."""
    with suppress(FileNotFoundError):
        return dict(json.loads((folder / "_delta_log" / NAME).read_text()))
    return {}


def lifetimes(
    found: Mapping[str, FileLifetime], renamed: Mapping[str, str]
) -> dict[str, FileLifetime]:
    """Lifetimes in which a rewritten file stands for the older one in its versions too."""
    result = dict(found)
    for old, new in renamed.items():
        if old in result and new in result:
            result[new] = replace(result[new], added=min(result[new].added, result[old].added))
            # No version is read from it any more.
            result[old] = replace(result[old], removed=result[old].added)
    return result
