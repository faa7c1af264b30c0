"""Where the spool of a store lies."""

from __future__ import annotations

from pathlib import Path

from s2d_store.capture.settings import CaptureConfig
from s2d_store.store import Store


def spool_folder(store: Store, config: CaptureConfig) -> Path:
    """Where exchanges wait: beside a local store, or in this folder for one elsewhere."""
    if config.spool:
        return Path(config.spool).expanduser()
    name = f"{store.root.name}.spool"
    folder = store.backend.local_path(store.root)
    return Path(name) if folder is None else folder.with_name(name)
