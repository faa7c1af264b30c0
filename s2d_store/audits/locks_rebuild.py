"""Audit of locks: does every dataset still rebuild, bit for bit, from the versions it pinned?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

import queries
from queries import Param, Query
from s2d_store.audits.base import Found, Scope
from s2d_store.datasets import lock_file
from s2d_store.datasets.build import verify
from s2d_store.errors import NotFoundError, S2DError, did_you_mean
from s2d_store.sql import connection
from s2d_store.store import Store

REBUILD = Query(
    "locks_rebuild",
    "audits",
    "do the locked datasets' files, and a fresh build from the pinned versions, match their locks?",
    "one row per dataset that does not match its lock, or cannot be rebuilt",
    (
        Param(
            "datasets",
            "VARCHAR",
            queries.NULL,
            "datasets to rebuild: names comma-separated; NULL: all",
        ),
    ),
    ("dataset", "fault", "locked", "files", "rebuilt"),
    "",
)
TEXT = queries.internal("audited_datasets")


def rebuild(scope: Scope) -> Found:
    """Rebuild each chosen dataset whose files are there; a dropped one has nothing to compare."""
    with connection.errors():
        chosen = scope.con.execute(TEXT, {"datasets": scope.values["datasets"]}).fetchall()
    ids = {dataset_id for dataset_id, _ in chosen}
    names = {name for _, name in chosen}
    rows: list[dict[str, Any]] = []
    examined = 0
    for name, dataset_id in sorted(built(scope.store).items()):
        # A lock that cannot be read names no id; the dataset's name must do.
        if dataset_id in ids or (dataset_id is None and name in names):
            examined += 1
            rows += _rebuilt(scope.store, name)
    return Found(len(rows), rows[: scope.sample], [{"examined": examined}], examined)


def _rebuilt(store: Store, name: str) -> list[dict[str, Any]]:
    try:
        found = verify(store, name)
    except S2DError as error:
        return [_row(name, " ".join(filter(None, (error.what, error.why))))]
    if found.matches:
        return []
    changed = "files" if found.files != found.locked else "the rebuild"
    fault = f"{changed} differs from the lock".replace("files differs", "files differ")
    row = _row(name, f"{fault}; {found.hint}" if found.hint else fault)
    return [row | {"locked": found.locked, "files": found.files, "rebuilt": found.rebuilt}]


def _row(name: str, fault: str) -> dict[str, Any]:
    return {"dataset": name, "fault": fault, "locked": None, "files": None, "rebuilt": None}


def built(store: Store) -> dict[str, str | None]:
    """Datasets whose files are there: the id in the lock, None where it cannot be read, by name."""
    ids: dict[str, str | None] = {}
    for name in lock_file.list_built(store):
        path = store.root / "datasets" / name / "lock.json"
        try:
            ids[name] = str(json.loads(path.read_text())["dataset_id"])
        except (OSError, ValueError, KeyError, TypeError):
            ids[name] = None
    return ids


def choose(store: Store, con: duckdb.DuckDBPyConnection, names: Sequence[str]) -> str:
    """Ids of the datasets of these names or ids, comma-separated; of a name, its newest dataset.

    Raises:
        NotFoundError: none of that name was ever built; names the nearest.
    """
    recorded = _recorded(con)
    there = built(store)
    ids = []
    for name in names:
        current = there.get(name)
        if name in recorded.values() and current in recorded:
            ids.append(str(current))
        elif name in recorded:
            ids.append(name)
        elif matching := [dataset_id for dataset_id, known in recorded.items() if known == name]:
            ids.append(matching[-1])
        else:
            raise NotFoundError(
                f"no dataset {name!r} in this store{did_you_mean(name, recorded.values())}",
                f"built: {', '.join(sorted(set(recorded.values()))) or 'none'}",
                "s2d dataset list",
            )
    return ",".join(ids)


def set_in_use(store: Store, con: duckdb.DuckDBPyConnection) -> None:
    """Have audits that name no datasets look at those whose files are there or that a run trained
    on: a dataset that was dropped before anything trained on it is nobody's concern any more.

    See macro audited_datasets.
    """
    recorded = _recorded(con)
    trained = {row[0] for row in con.execute(queries.internal("datasets_trained")).fetchall()}
    there = built(store)
    unread = [name for name, dataset_id in there.items() if dataset_id is None]
    ids = [i for i, name in recorded.items() if i in there.values() or i in trained]
    ids += [i for i, name in recorded.items() if name in unread and i not in ids]
    con.register("_in_use", pa.table({"dataset_id": pa.array(ids, pa.string())}))
    con.execute(queries.internal("set_datasets_in_use"))
    con.unregister("_in_use")


def _recorded(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Names by id of every dataset ever built, oldest first."""
    with connection.errors():
        return dict(con.execute(queries.internal("dataset_ids")).fetchall())
