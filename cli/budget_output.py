"""How `s2d budget` prints limits and amounts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2d_store.accounting.budget_file import Line

BAR_WIDTH = 24


def print_limits(lines: Sequence[Line], purpose: str, form: str = "table") -> None:
    """Print declared, spent and left, with bars on a terminal."""
    bars = form == "table" and sys.stdout.isatty()
    if form == "table":
        print(f"spent on {described(purpose)}:")
    rows: list[list[Any]] = []
    for line in lines:
        limit, note = line.limit, "OVER" if line.over else ""
        if bars:
            full = round(BAR_WIDTH * min(1.0, line.spent / max(limit.declared, 1e-9)))
            note = f"{'█' * full}{'░' * (BAR_WIDTH - full)} {note}".rstrip()
        rows.append([limit.title, limit.metric, limit.declared, line.spent, line.left, note])
    print_amounts(["scope", "metric", "declared", "spent", "left", ""], rows, form)


def print_lineage(
    columns: list[str], records: Sequence[dict[str, Any]], form: str = "table"
) -> None:
    """Print the rows of query lineage, then labels on either side in a sentence."""
    table: list[list[Any]] = []
    for record in records:
        level = record["level"]
        label = {
            "policy": [record["side"], record["stage"] or "(none)", record["policy"] or "-"],
            "side": [record["side"], "all", ""],
            "stage": ["all", record["stage"] or "(none)", ""],
            "all": ["all", "all", ""],
        }[level]
        table.append([*label, *list(record.values())[4:]])
    print_amounts(["side", "stage", "policy", *columns[4:]], table, form)
    if form != "table":
        return
    labels = {record["side"]: record["labels"] for record in records if record["level"] == "side"}
    print(
        f"labels spent: {labels.get('upstream', 0):,} on its teachers (upstream), "
        f"{labels.get('downstream', 0):,} on its own line (downstream), "
        f"{records[-1]['labels']:,} distinct in all"
    )


def described(purpose: str) -> str:
    """A budget's purpose in words."""
    return "training" if purpose == "train" else "training and evaluation"


def print_amounts(columns: list[str], rows: list[list[Any]], form: str = "table") -> None:
    """Print rows, amounts to the right and on a terminal with separators."""
    from cli.output import print_rows
    from cli.table import Amount
    from s2d_store.accounting.budget_file import amount

    if form == "table":
        rows = [
            [Amount(amount(v)) if isinstance(v, int | float) else v for v in row] for row in rows
        ]
    print_rows(columns, rows, form)
