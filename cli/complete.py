"""What a shell completes: names that a store has, named queries and audits.

A shell asks at every press of a key, so a store that cannot be read completes to nothing.
"""

from __future__ import annotations

from typing import Any

from cli.options import DEFAULT_STORE


def queries(incomplete: str) -> list[str]:
    """Named queries."""
    import queries as shipped

    return [name for name in shipped.catalog() if name.startswith(incomplete)]


def audits(incomplete: str) -> list[str]:
    """Audits."""
    from s2d_store.audits import catalog

    return [name for name in catalog() if name.startswith(incomplete)]


def policies(ctx: Any, incomplete: str) -> list[str]:
    """Registered policies."""
    return _names(ctx, "policies", incomplete)


def datasets(ctx: Any, incomplete: str) -> list[str]:
    """Locked datasets."""
    return _names(ctx, "datasets", incomplete)


def _names(ctx: Any, table: str, incomplete: str) -> list[str]:
    import queries as shipped
    from s2d_store.errors import S2DError
    from s2d_store.store import Store

    asked = {"policies": "policy_names", "datasets": "dataset_names"}[table]
    try:
        store = Store.open(ctx.params.get("store") or DEFAULT_STORE)
        found = store.sql(shipped.internal(asked)).select("name").fetchall()
    except S2DError:
        return []
    return [name for (name,) in found if name.startswith(incomplete)]
