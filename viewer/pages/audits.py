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
    results = []
    for name in audits.catalog():
        if name in _SLOW:
            continue
        try:
            results += audits.audit(view.store, [name], sample=_SAMPLE)
        except InputError:  # it needs a parameter that only its caller can choose: left out
            continue
    return results


PAGE = Page("audits", "/audits", "", (), load)
