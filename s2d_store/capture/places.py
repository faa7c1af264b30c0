"""Where the spool of a store lies."""

from __future__ import annotations

from pathlib import Path

from s2d_store.capture.settings import CaptureConfig
from s2d_store.store import Store


def spool_folder(store: Store, config: CaptureConfig) -> Path:
    """Where exchanges wait: beside a local store, or in this folder for one elsewhere."""
    if config.spool:
        return Path(config.spool).expanduser()
    if isinstance(store.root, Path):
        return store.root.with_name(f"{store.root.name}.spool")
    return Path(f"{store.root.name}.spool")
