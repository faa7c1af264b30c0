"""s2d init."""

from __future__ import annotations

from cli.options import DEFAULT_STORE, StoreOption


def init(store: StoreOption = DEFAULT_STORE) -> None:
    """Create an empty store; an existing one stays as it is."""
    from s2d_store.store import Store

    print(f"store ready at {Store.init(store).root}")
