"""s2d_store: an append-only rollout store on Delta Lake and Parquet, queried through DuckDB.

Exports load on first use, so that a GPU node can read datasets with pyarrow and numpy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from s2d_store.version import __version__

if TYPE_CHECKING:
    from s2d_store.datasets.open import open_dataset
    from s2d_store.datasets.read import LockedDataset
    from s2d_store.errors import S2DError
    from s2d_store.store import Store

__all__ = ["LockedDataset", "S2DError", "Store", "__version__", "open_dataset"]

_EXPORTS = {
    "LockedDataset": "s2d_store.datasets.read",
    "S2DError": "s2d_store.errors",
    "Store": "s2d_store.store",
    "open_dataset": "s2d_store.datasets.open",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 's2d_store' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
