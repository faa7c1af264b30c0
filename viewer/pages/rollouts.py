"""The rollouts as a table: a filter that is SQL, histograms that filter, any number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from viewer import selection
from viewer.page import Page
from viewer.params import Params
from viewer.selection import Selection
from viewer.snapshots import Record, View

QUERIES = (*selection.QUERIES, "prompt_texts", "verdicts_of", "verifiers_used")
ROWS, MOST_ROWS, BINS, WORDS = 60, 500, 20, 7
# What the table can be sorted by, as the SQL above it says it.
ORDERS = {
    "newest": "created_at DESC",
    "oldest": "created_at",
    "prompt": "prompt_id",
    "longest": "response_tokens DESC",
    "shortest": "response_tokens",
    "best": "reward DESC NULLS LAST",
    "worst": "reward NULLS LAST",
}
_HISTOGRAMS = {"response_tokens": "tokens", "round": "round"}
_COUNTS = {
    "outcome": "outcome",
    "policy": "policy",
    "purpose": "purpose",
    "finish_reason": "ended by",
}


def load(view: View, params: Params) -> dict[str, Any]:
    """Rows from `offset` on, and unless `part=rows` how the chosen ones are spread."""
    where, ready = params.text("where"), params.choice("ready", tuple(selection.READY))
    order = params.choice("order", tuple(ORDERS), "newest")
    offset = params.integer("offset", 0)
    chosen = selection.choose(view, where, ready)
    n_rows = max(1, params.integer("rows", ROWS, MOST_ROWS))
    data: dict[str, Any] = {
        "total": chosen.asked(view, "chosen_total")[0]["total"],
        "offset": offset,
        "rows": _page(view, chosen, order, offset, n_rows),
    }
    if params.choice("part", ("rows",)):
        return data
    return data | {
        "where": where,
        "ready": ready,
        "order": order,
        "orders": list(ORDERS),
        "page_rows": n_rows,
        "ready_filters": selection.READY,
        "sql": _sql(chosen.where, order),
        "histograms": [
            {"column": column, "title": title, "bins": _bins(view, chosen, column)}
            for column, title in _HISTOGRAMS.items()
        ],
        "counts": [
            {"column": column, "title": title, "words": _words(view, chosen, column)}
            for column, title in _COUNTS.items()
        ],
    }


def _sql(where: str, order: str) -> str:
    """The rows as a reader asks `s2d query` for them."""
    condition = f"\nWHERE {where}" if where else ""
    return f"SELECT *\nFROM graded_rollouts{condition}\nORDER BY {ORDERS[order]}, rollout_id"


def _page(view: View, chosen: Selection, order: str, offset: int, n_rows: int) -> list[Record]:
    """Rows of the table, with the prompt's text and every verifier's verdict."""
    found = chosen.asked(view, "chosen_page", sort=order, n_rows=n_rows, skipped=offset)
    found = [dict(row) for row in found]
    texts = prompt_texts(view, [row["prompt_id"] for row in found])
    verdicts: dict[str, list[Record]] = {}
    if len(view.asked("verifiers_used")) > 1:
        for row in view.rows("verdicts_of", rollouts=[row["rollout_id"] for row in found]):
            verdicts.setdefault(row["rollout_id"], []).append(row)
    for row in found:
        row["prompt"] = texts.get(row["prompt_id"])
        only = {key: row[key] for key in ("verifier", "outcome", "reward", "extracted")}
        row["verdicts"] = verdicts.get(row["rollout_id"]) or ([only] if row["verifier"] else [])
    return found


def prompt_texts(view: View, prompt_ids: Sequence[str]) -> dict[str, str | None]:
    """The words of prompts by id."""
    wanted = tuple(sorted(set(prompt_ids)))
    rows = view.kept(
        ("prompt_texts", wanted), lambda: view.rows("prompt_texts", prompts=list(wanted))
    )
    return {row["prompt_id"]: row["text"] for row in rows}


def _bins(view: View, chosen: Selection, column: str) -> list[Record]:
    """A histogram's ranges, each with the condition that it stands for; those between them, too."""
    found = chosen.asked(view, "chosen_histogram", number=column, most=BINS)
    if not found:
        return []
    counts, width = {row["low"]: row["count"] for row in found}, found[0]["width"]
    bins = []
    for low in range(found[0]["low"], found[0]["last"] + 1, width):
        high = low + width - 1
        condition = f"{column} BETWEEN {low} AND {high}" if width > 1 else f"{column} = {low}"
        bins.append({"low": low, "high": high, "count": counts.get(low, 0), "condition": condition})
    return bins


def _words(view: View, chosen: Selection, column: str) -> list[Record]:
    """A column's most frequent words, each with the condition that it stands for."""
    return [
        row | {"condition": _equals(column, row["value"])}
        for row in chosen.asked(view, "chosen_counts", word=column, most=WORDS)
    ]


def _equals(column: str, value: str | None) -> str:
    if value is None:
        return f"{column} IS NULL"
    quoted = value.replace("'", "''")
    return f"{column} = '{quoted}'"


PAGE = Page("rollouts", "/rollouts", "Rollouts", QUERIES, load)
