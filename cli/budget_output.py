"""How `s2d budget` prints limits and amounts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2d_store.accounting.budget_file import Line

BAR_WIDTH = 24


def print_limits(lines: Sequence[Line], purpose: str) -> None:
    """Print declared, spent and left, with bars on a terminal."""
    from rich.bar import Bar

    print(f"spent on {described(purpose)}:")
    rows: list[list[Any]] = []
    for line in lines:
        limit = line.limit
        row = [limit.title, limit.metric, limit.declared, line.spent, line.left]
        if sys.stdout.isatty():
            size = max(limit.declared, 1e-9)
            color = "red" if line.over else "yellow" if line.spent > 0.9 * size else "green"
            row.append(Bar(size, 0, min(line.spent, size), width=BAR_WIDTH, color=color))
        else:
            row.append("OVER" if line.over else "")
        rows.append(row)
    print_amounts(["scope", "metric", "declared", "spent", "left", ""], rows)


def print_lineage(columns: list[str], records: Sequence[dict[str, Any]]) -> None:
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
    print_amounts(["side", "stage", "policy", *columns[4:]], table)
    labels = {record["side"]: record["labels"] for record in records if record["level"] == "side"}
    print(
        f"labels spent: {labels.get('upstream', 0):,} on its teachers (upstream), "
        f"{labels.get('downstream', 0):,} on its own line (downstream), "
        f"{records[-1]['labels']:,} distinct in all"
    )


def described(purpose: str) -> str:
    """A budget's purpose in words."""
    return "training" if purpose == "train" else "training and evaluation"


def print_amounts(columns: list[str], rows: list[list[Any]]) -> None:
    """Print rows as an aligned table, amounts to the right and with separators."""
    from rich.console import Console
    from rich.table import Table

    from s2d_store.accounting.budget_file import amount

    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        numeric = any(isinstance(row[i], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(amount(v) if isinstance(v, int | float) else v for v in row))
    wide = None if sys.stdout.isatty() else 400
    Console(width=wide, highlight=False, markup=False).print(table)
