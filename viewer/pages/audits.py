"""The audits with the rows that break them: a part of other pages, run when it is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from s2d_store import audits
from s2d_store.errors import InputError
from viewer.page import Page
from viewer.params import Params
from viewer.snapshots import View

# It builds every dataset again: minutes, not a page.
_SLOW = "locks_rebuild"
_SAMPLE = 20


def load(view: View, params: Params) -> dict[str, Any]:
    """Every audit but the slow one, with the parameters that stand without a choice."""
    found = view.kept(("audits",), lambda: _run(view))
    return {"audits": [dataclasses.asdict(result) for result in found]}


def _run(view: View) -> list[audits.AuditResult]:
    results = []
    for name in audits.catalog():
        if name == _SLOW:
            continue
        try:
            results += audits.audit(view.store, [name], sample=_SAMPLE)
        except InputError:  # it needs a parameter that only its caller can choose
            continue
    return results


PAGE = Page("audits", "/audits", "", (), load)
