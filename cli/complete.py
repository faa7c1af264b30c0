"""What a shell completes: names that a store has, named queries and audits.

A shell asks at every press of a key, so a store that cannot be read completes to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

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


def engines(incomplete: str) -> list[str]:
    """Engines."""
    from s2d_store.engines import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


def exports(incomplete: str) -> list[str]:
    """Formats of exports."""
    from s2d_store.datasets.exports import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


# Of a command's options those that name something, by the field that they fill.
BY_FIELD: dict[str, Callable[..., list[str]]] = {
    "policy": policies,
    "engine": engines,
}
DatasetArgument = Annotated[
    str, typer.Argument(help="The dataset's name.", autocompletion=datasets)
]


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
