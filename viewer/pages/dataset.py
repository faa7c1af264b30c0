"""One locked dataset: its lock as a card, its rows by update, its labels, and another beside it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from s2d_store.datasets import stats, verify
from s2d_store.datasets.lock_file import list_built
from s2d_store.errors import NotFoundError, S2DError
from viewer.page import Page
from viewer.params import Params
from viewer.snapshots import Record, View

QUERIES = ("dataset_lock", "dataset_update_rows", "dataset_labels", "dataset_updates")
ROWS = 64
# Of the lock, what the card always shows, and what it does not show as it stands.
_SHOWN = dict.fromkeys(("kind", "query", "fingerprint", "counts", "params", "versions"))
_LONG = ("query_sql", "definitions", "files", "sources", "columns", "seal")


def load(view: View, params: Params) -> dict[str, Any]:
    """A dataset by id or name; with `verify=1` built again, with `other` compared.

    Raises:
        NotFoundError: there is none.
    """
    wanted = params.text("dataset_id")
    found = view.asked("dataset_lock", dataset=wanted)
    if not found:
        raise NotFoundError(f"no dataset {wanted!r} in this store", fix="see the page Datasets")
    name, dataset_id = found[0]["name"], found[0]["dataset_id"]
    lock = json.loads(found[0]["lock"])
    there = list_built(view.store)
    updates = view.asked("dataset_updates", dataset=dataset_id)
    last = updates[-1]["update"] if updates else 1
    chosen = params.integer("update", updates[0]["update"] if updates else 1, last)
    other = params.choice("other", [one for one in there if one != name])
    return {
        "name": name,
        "dataset_id": dataset_id,
        "created_at": found[0]["created_at"],
        "built": name in there,
        "lock": _SHOWN | {key: value for key, value in lock.items() if key not in _LONG},
        "sql": lock.get("query_sql", ""),
        "definitions": sorted(lock.get("definitions") or {}),
        "verified": _verified(view, name) if params.choice("verify", ("1",)) else None,
        "updates": updates,
        "update": chosen,
        "rows": view.asked(
            "dataset_update_rows", dataset=dataset_id, of_update=chosen, n_rows=ROWS
        ),
        "labels": view.asked("dataset_labels", dataset=dataset_id),
        "others": [one for one in there if one != name],
        "other": other,
        "diff": _diff(view, name, other) if other else None,
    }


def _verified(view: View, name: str) -> dict[str, Any]:
    """What a rebuild says: fingerprints that match, or what is wrong. It may take a while."""

    def build_again() -> dict[str, Any]:
        try:
            found = verify.verify(view.store, name)
        except S2DError as error:
            return {"matches": False, "fault": str(error)}
        return {"matches": found.matches, "fault": found.hint} | dataclasses.asdict(found)

    result: dict[str, Any] = view.kept(("verified", name), build_again)
    return result


def _diff(view: View, name: str, other: str) -> dict[str, Any]:
    def compare() -> Record:
        found = stats.diff(view.store, name, other)
        settings = [
            {"setting": key, "first": first, "second": second}
            for key, (first, second) in found.settings.items()
        ]
        return {"same": found.same, "measures": found.measures, "settings": settings}

    result: Record = view.kept(("diff", name, other), compare)
    return result


PAGE = Page("dataset", "/datasets/{dataset_id}", "", QUERIES, load)
