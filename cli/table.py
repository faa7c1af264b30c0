"""Rows as text: an aligned table, one record below the other, CSV, JSON, Markdown or LaTeX."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

Row = Sequence[Any]
_LIST_ITEMS = 6
_GAP = 2
# A column of text is wrapped to no less than this before rows are printed as records.
_NARROWEST = 24
# What a model wrote must not steer the terminal: escape sequences move, hide and copy text, and
# bidirectional controls show it in another order than it has.
_HIDDEN = (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {
    i: f"\\x{i:02x}" if i < 256 else f"\\u{i:04x}" for i in _HIDDEN if chr(i) not in "\t\n"
}
_CSV_CONTROLS = {i: text for i, text in _CONTROLS.items() if chr(i) != "\r"}
# A spreadsheet runs what begins so.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\n": " ",
}
_MARKDOWN = {"|": r"\|", "\n": "<br>", "<": "&lt;", ">": "&gt;", "&": "&amp;"}


def cell(value: Any) -> str:
    """A value as text that is safe to print: long lists shortened, controls spelled out."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        shown = ", ".join(cell(item) for item in value[:_LIST_ITEMS])
        more = f", ... {len(value)} in all" if len(value) > _LIST_ITEMS else ""
        return f"[{shown}{more}]"
    return safe(str(value))


def safe(text: str) -> str:
    """Text without what would steer a terminal."""
    return text.translate(_CONTROLS)


def width_of(text: str) -> int:
    """Columns that one line takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def table(columns: Sequence[str], rows: Sequence[Row], width: int, bold: bool = False) -> str:
    """Rows as an aligned table, numbers to the right; where it is too wide, as records.

    Args:
        columns: their names.
        rows: values.
        width: of the terminal.
        bold: whether to print the header in bold.
    """
    cells = [[cell(value).split("\n") for value in row] for row in rows]
    widths = [
        max([width_of(name), *(width_of(line) for row in cells for line in row[i])])
        for i, name in enumerate(columns)
    ]
    fitted = _fit(columns, widths, width)
    if fitted is None:
        return "\n".join(_records(columns, cells, bold))
    if fitted != widths:
        cells = [[_wrapped(lines, fitted[i]) for i, lines in enumerate(row)] for row in cells]
    right = [_is_numeric(rows, i) for i in range(len(columns))]
    head = _line(columns, fitted, right)
    lines = [f"\x1b[1m{head}\x1b[0m" if bold else head]
    for row in cells:
        for i in range(max(map(len, row), default=0)):
            lines.append(_line([c[i] if i < len(c) else "" for c in row], fitted, right))
    return "\n".join(lines)


class Amount(str):
    """A number that is text already, such as `1,024`."""


def _is_numeric(rows: Sequence[Row], i: int) -> bool:
    return bool(rows) and all(isinstance(row[i], int | float | Amount | None) for row in rows)


def _fit(columns: Sequence[str], widths: Sequence[int], width: int) -> list[int] | None:
    """Widths of columns that fit side by side, the widest ones narrowed; None where none do."""
    fitted = list(widths)
    over = sum(fitted) + _GAP * (len(fitted) - 1) - width
    while over > 0:
        widest = max(range(len(fitted)), key=lambda i: fitted[i])
        least = max(_NARROWEST, width_of(columns[widest]))
        if fitted[widest] <= least:
            return None
        others = [w for i, w in enumerate(fitted) if i != widest]
        step = min(over, fitted[widest] - max(least, max(others, default=0) - 1))
        fitted[widest] -= max(1, step)
        over = sum(fitted) + _GAP * (len(fitted) - 1) - width
    return fitted


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for text, width, numeric in zip(texts, widths, right, strict=True):
        space = " " * (width - width_of(text))
        parts.append(space + text if numeric else text + space)
    return (" " * _GAP).join(parts).rstrip()


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    return [part for line in lines for part in _wrap(line, width)]


def _wrap(line: str, width: int) -> Iterator[str]:
    """A line in parts of at most this width, broken at spaces where there are any."""
    while width_of(line) > width:
        end = taken = 0
        while end < len(line) and taken + width_of(line[end]) <= width:
            taken += width_of(line[end])
            end += 1
        space = line.rfind(" ", max(1, end // 2), end + 1)
        cut = space if space > 0 else max(1, end)
        yield line[:cut]
        line = line[cut:].removeprefix(" ")
    yield line


def _records(
    columns: Sequence[str], cells: Sequence[Sequence[Sequence[str]]], bold: bool
) -> Iterator[str]:
    """Rows one below the other: a line per column, the lines of a text below each other."""
    names = max(map(width_of, columns))
    for number, row in enumerate(cells, 1):
        title = f"row {number} of {len(cells)}"
        yield f"\x1b[1m{title}\x1b[0m" if bold else title
        for name, lines in zip(columns, row, strict=True):
            yield f"  {name}{' ' * (names - width_of(name))}  {lines[0]}"
            yield from (f"  {'':{names}}  {line}" for line in lines[1:])
        if number < len(cells):
            yield ""


def csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Rows as CSV, a text each: controls spelled out, an apostrophe before a formula."""
    import csv
    import io

    for row in rows:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([_csv_cell(value) for value in row])
        yield text.getvalue()


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    value = value.translate(_CSV_CONTROLS)
    return f"'{value}" if _FORMULA.match(value) and not _NUMBER.fullmatch(value) else value


def record(columns: Sequence[str], row: Row) -> str:
    """A row as a JSON object on one line."""
    import json

    values = {name: _json_value(value) for name, value in zip(columns, row, strict=True)}
    return json.dumps(values, default=str, ensure_ascii=False)


def _json_value(value: Any) -> Any:
    """A value that JSON has: it knows no infinity and no NaN, so these are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value


def markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Rows as a Markdown table, numbers to the right."""
    lines = [
        [_replaced(name, _MARKDOWN) for name in columns],
        ["---:" if _is_numeric(rows, i) else "---" for i in range(len(columns))],
        *([_replaced(cell(value), _MARKDOWN) for value in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Rows as a LaTeX tabular with the lines of package booktabs."""
    form = "".join("r" if _is_numeric(rows, i) else "l" for i in range(len(columns)))
    lines = [
        [_replaced(name, _LATEX) for name in columns],
        *([_replaced(cell(value), _LATEX) for value in row] for row in rows),
    ]
    head, *body = (f"{' & '.join(line)} \\\\" for line in lines)
    begin = f"\\begin{{tabular}}{{{form}}}"
    end = (r"\bottomrule", r"\end{tabular}")
    return "\n".join([begin, r"\toprule", head, r"\midrule", *body, *end])


def _replaced(text: str, signs: dict[str, str]) -> str:
    return "".join(signs.get(c, c) for c in text)
