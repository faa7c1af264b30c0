"""Sweep what killed writers left: unfinished commits are completed, orphan files removed.

Files of any version of a table stay: locks and old snapshots need them.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from s2d_store import journal
from s2d_store.schema import TABLES
from s2d_store.snapshot import table_path
from s2d_store.store import Store

# A live writer may have written a file that it has not committed yet.
GRACE_S = 3600.0


@dataclass(frozen=True)
class Swept:
    """Commits completed, and uncommitted files with their bytes."""

    recovered: int
    files: int
    bytes: int


def vacuum(store: Store, *, dry_run: bool = False, grace_s: float = GRACE_S) -> Swept:
    """Complete dead writers' commits, then remove files older than `grace_s` in no version."""
    recovered = 0 if dry_run else journal.recover(store.root)
    orphans = [path for name in TABLES for path in _orphans(table_path(store.root, name))]
    orphans += list((store.root / "datasets").glob(".*.draft"))
    orphans += list((store.root / "pending").glob("*.draft"))
    cutoff = time.time() - grace_s
    old = [path for path in orphans if path.stat().st_mtime < cutoff]
    size = sum(_size(path) for path in old)
    if not dry_run:
        for path in old:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Swept(recovered, len(old), size)


def _orphans(folder: Path) -> list[Path]:
    known = _known(folder)
    pending = {
        entry["path"]
        for path in (folder.parent.parent / "pending").glob("*.json")
        for entry in json.loads(path.read_text())
    }
    return [
        path
        for path in folder.rglob("*.parquet")
        if "_delta_log" not in path.parts
        and path.relative_to(folder).as_posix() not in known | pending
    ]


def _known(folder: Path) -> set[str]:
    """Paths that any version ever added; logs are never expired, so all are there."""
    known = set()
    for log in (folder / "_delta_log").glob("*.json"):
        for line in log.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                known.add(unquote(action["add"]["path"]))
    return known


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
