"""Every dataset that was ever locked."""

from __future__ import annotations

from typing import Any

from s2d_store.datasets.lock_file import list_built
from viewer.page import Page
from viewer.params import Params
from viewer.snapshots import View

QUERIES = ("dataset_list",)


def load(view: View, params: Params) -> dict[str, Any]:
    """The datasets, newest first; `built` where their files are there."""
    there = set(list_built(view.store))
    rows = view.asked("dataset_list")
    newest = {row["name"]: row["dataset_id"] for row in reversed(rows)}
    return {
        "datasets": [
            row | {"built": row["name"] in there and newest[row["name"]] == row["dataset_id"]}
            for row in rows
        ]
    }


PAGE = Page("datasets", "/datasets", "Datasets", QUERIES, load)
