"""The audits with the rows that break them: a part of other pages, run when it is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from s2d_store import audits
from s2d_store.errors import InputError
from viewer.page import Page
from viewer.params import Params
from viewer.snapshots import View

# They build every dataset again, and load models: minutes, not a page.
_SLOW = ("locks_rebuild", "server_agrees")
_SAMPLE = 20


def load(view: View, params: Params) -> dict[str, Any]:
    """The audits whose parameters stand without a choice, and the names of those left out."""
    found = view.kept(("audits",), lambda: _run(view))
    ran = {result.name for result in found}
    return {
        "audits": [dataclasses.asdict(result) for result in found],
        "left_out": [name for name in audits.catalog() if name not in ran],
    }


def _run(view: View) -> list[audits.AuditResult]:
    names = [name for name in audits.catalog() if name not in _SLOW]
    try:  # over one connection, whose views take longer to make than a small store's audits
        return audits.audit(view.store, names, sample=_SAMPLE)
    except InputError:  # one of them needs a parameter that only its caller can choose
        return [result for name in names for result in _run_alone(view, name)]


def _run_alone(view: View, name: str) -> list[audits.AuditResult]:
    try:
        return audits.audit(view.store, [name], sample=_SAMPLE)
    except InputError:  # left out
        return []


PAGE = Page("audits", "/audits", "", (), load)
