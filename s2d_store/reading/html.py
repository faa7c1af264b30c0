"""Rollouts and rows as HTML for notebooks: everything that was stored is shown as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from s2d_store.reading import signals

if TYPE_CHECKING:
    from s2d_store.reading.rollout import Rollout

_BOX = "white-space:pre-wrap;overflow-wrap:anywhere;font-family:monospace"
_SHOWN = 20


def rows(columns: Sequence[str], values: Iterable[Sequence[Any]], caption: str = "") -> str:
    """Rows as an HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in values
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def tables(
    shown: Iterable[tuple[Sequence[str], Iterable[Sequence[Any]]]], notes: Iterable[str]
) -> str:
    """Several tables, one below the other, and what is to be said of them."""
    text = "".join(rows(columns, values) for columns, values in shown)
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<div>{text}{said}</div>"


def rollout(read: Rollout) -> str:
    """A rollout: its prompt, its tokens shaded, its verdicts."""
    tokens = read.of_scorer()
    name = signals.default(tokens)
    signal = signals.find(name)
    about = ", ".join(
        f"{key} {value}" for key, value in read.facts.items() if value not in (None, "")
    )
    asked = "".join(
        f"<p style='{_BOX}'><b>{escape(m['role'])}</b> {escape(m['content'] or '')}</p>"
        for m in read.messages
    )
    shaded = "".join(_token(row, signal) for row in tokens) or escape(read.response)
    columns = ["verifier", "verifier_version", "reward", "outcome", "extracted"]
    verdicts = rows(columns, ([v[c] for c in columns] for v in read.verdicts))
    return (
        f"<div><p><b>rollout {escape(read.rollout_id)}</b> {escape(about)}</p>{asked}"
        f"<p style='{_BOX}'><b>response</b> {shaded}</p>"
        f"<p>shaded by {escape(name)}: {escape(signal.doc)}</p>{verdicts}</div>"
    )


def _token(row: dict[str, Any], signal: signals.Signal) -> str:
    value = row[signal.column]
    told = "unknown" if value is None else f"{value:.4f}"
    strong = signals.strength(signal, row)
    title = escape(f"{signal.column} {told}, position {row['position']}", quote=True)
    return (
        f'<span title="{title}" style="background:rgba(214,96,77,{strong:.2f})">'
        f"{escape(row['token'] or str(row['token_id']))}</span>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return escape(text if len(text) <= _SHOWN * 20 else text[: _SHOWN * 20] + " ...")
