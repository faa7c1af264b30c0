"""How `s2d eval` prints scores, and comparisons over prompts or over training seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2d_store.evaluation.figures import Report


def print_report(report: Report, format_: str) -> None:
    """Print a report's tables in one of TEXT_FORMATS; as JSON it is one document."""
    import dataclasses
    import json

    from cli.output import print_rows
    from s2d_store.evaluation.tables import notes, tables

    if format_ == "json":
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    for number, (columns, rows, remarks) in enumerate(tables(report, raw=format_ == "csv")):
        if number:
            print()
        print_rows(columns, rows, format_)
        _say(remarks, format_)
        if not number:
            _say(notes(report), format_)


def _say(remarks: Iterable[str], format_: str) -> None:
    """Print remarks; on standard error where another program reads the tables."""
    import sys

    for remark in remarks:
        print(remark, file=sys.stdout if format_ == "table" else sys.stderr)
