"""Charts as SVG text: pure functions of numbers, printable, drawn without a script.

Colours and fonts are classes (`static/style.css`), so that one drawing serves dark, light and
paper; a page that stands alone brings that file along. Every chart says in words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from viewer.text import number, one_line, shown

LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 22
# Hues that style.css has: series-0 .. series-5.
HUES = 6
_MOST_POINTS = 600
# Width of a letter of names, in pixels.
_LETTER = 6.7


@dataclass(frozen=True)
class Series:
    """A line: its name and points `(x, y)`; None as y leaves a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Bin:
    """A bar of a histogram: from, to, how many, and the link that filters by it."""

    low: float
    high: float
    count: int
    href: str = ""


@dataclass(frozen=True)
class Bar:
    """A bar with a name: its value, the text behind it, and whether it stands out."""

    name: str
    value: float
    text: str = ""
    marked: bool = False
    href: str = ""


def svg(width: float, height: float, title: str, body: Sequence[str], kind: str = "") -> Markup:
    """An SVG element with its description."""
    title = shown(title)
    return Markup(
        f'<svg class="chart {kind}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two others.

    Example:
        >>> ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        >>> ticks(3, 47)
        [10.0, 20.0, 30.0, 40.0]
    """
    if not high > low:
        return [float(low)]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    title: str,
    *,
    x_label: str = "",
    width: int = 340,
    height: int = 150,
    marks: Sequence[float] = (),
    zero: bool = False,
) -> Markup:
    """Lines over one axis.

    Args:
        series: the lines; each has a hue of its own.
        title: what the chart shows.
        x_label: what x counts.
        width: of the drawing, in pixels.
        height: likewise.
        marks: values of x with a thin line, as where a round begins.
        zero: let the axis of y hold 0.
    """
    lines = [[(x, y) for x, y in s.points if y is not None and math.isfinite(y)] for s in series]
    known = [point for line in lines for point in line]
    if not known:
        return svg(width, 40, f"{title}: no figures", [_text(8, 24, "no figures", "muted")])
    left, right = min(x for x, _ in known), max(x for x, _ in known)
    low, high = min(y for _, y in known), max(y for _, y in known)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    if high - low < 1e-12:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    across, down = width - LEFT - RIGHT, height - TOP - BOTTOM

    def at_x(x: float) -> float:
        return LEFT + across * ((x - left) / (right - left) if right > left else 0.5)

    def at_y(y: float) -> float:
        return TOP + down * (high - y) / (high - low)

    body = [_rule(LEFT, at_y(y), width - RIGHT, at_y(y), "grid") for y in ticks(low, high)]
    body += [_text(LEFT - 6, at_y(y) + 3.5, number(y), "tick end") for y in ticks(low, high)]
    counted = all(float(x).is_integer() for x, _ in known)
    room = width - RIGHT - (7 * len(x_label) + 14 if x_label else 0)
    body += [
        _text(at_x(x), height - 8, number(x), "tick middle")
        for x in ticks(left, right, 6)
        if at_x(x) <= room and (x.is_integer() or not counted)
    ]
    body += [_rule(at_x(x), TOP, at_x(x), TOP + down, "mark") for x in marks if left <= x <= right]
    for i, line in enumerate(lines):
        hue = f"series-{i % HUES}"
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in thinned(line, _MOST_POINTS))
        body.append(f'<polyline class="line {hue}" points="{path}"/>')
        if len(line) <= 40:
            body += [
                f'<circle class="dot {hue}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="2">'
                f"<title>{number(x)}: {number(y)}</title></circle>"
                for x, y in line
            ]
    if x_label:
        body.append(_text(width - RIGHT, height - 8, x_label, "tick end unit"))
    ends = "; ".join(
        f"{s.name} {number(line[0][1])} to {number(line[-1][1])}"
        for s, line in zip(series, lines, strict=True)
        if line
    )
    return svg(width, height, f"{title}: {ends}", body)


def thinned(points: Sequence[tuple[float, float]], most: int) -> Sequence[tuple[float, float]]:
    """At most about `most` points: the lowest and the highest of each stretch, so peaks stay."""
    if len(points) <= most:
        return points
    size = math.ceil(2 * len(points) / most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def histogram(bins: Sequence[Bin], title: str, *, width: int = 230, height: int = 96) -> Markup:
    """Counts by range; a bar with a link filters by its range."""
    most = max((b.count for b in bins), default=0)
    if not most:
        return svg(width, 40, f"{title}: no figures", [_text(8, 24, "no figures", "muted")])
    across, down = width - 16, height - 30
    step = across / len(bins)
    body = [_rule(8, 8 + down, width - 8, 8 + down, "axis")]
    for i, b in enumerate(bins):
        tall = max(1.5 if b.count else 0.0, down * b.count / most)
        what = f"{number(b.low)} to {number(b.high)}: {b.count:,}"
        bar = (
            f'<rect class="bar" x="{8 + i * step + 0.75:.1f}" y="{8 + down - tall:.1f}" '
            f'width="{step - 1.5:.1f}" height="{tall:.1f}"/>'
            f'<rect class="catch" x="{8 + i * step:.1f}" y="8" width="{step:.1f}" height="{down}">'
            f"<title>{what}</title></rect>"
        )
        body.append(f'<a href="{escape(b.href)}">{bar}</a>' if b.href and b.count else bar)
    body.append(_text(8, height - 8, number(bins[0].low), "tick"))
    body.append(_text(width - 8, height - 8, number(bins[-1].high), "tick end"))
    return svg(width, height, f"{title}, {sum(b.count for b in bins):,} in all", body)


def bars(
    rows: Sequence[Bar],
    title: str,
    *,
    width: int = 300,
    row_height: int = 20,
    name_width: int = 96,
    most: float | None = None,
    keep_end: bool = False,
) -> Markup:
    """Horizontal bars with a name before and a figure behind each.

    Args:
        rows: the bars.
        title: what the chart shows.
        width: of the drawing, in pixels.
        row_height: of a bar with its gap.
        name_width: room for the names; longer ones are shortened.
        most: the value of the longest bar; None for the largest of them.
        keep_end: shorten names at their beginning, as of policies, whose end says the round.
    """
    if not rows:
        return svg(width, 40, f"{title}: nothing", [_text(8, 24, "nothing", "muted")])
    largest = most or max(abs(row.value) for row in rows) or 1.0
    across = width - name_width - 66
    body = []
    for i, row in enumerate(rows):
        y = i * row_height
        long = max(1.0, across * min(1.0, abs(row.value) / largest)) if row.value else 0.0
        body.append(f'<g class="row{" marked" if row.marked else ""}">')
        body.append(f'<a href="{escape(row.href)}">' if row.href else "")
        body.append(
            _text(
                name_width - 8,
                y + row_height * 0.68,
                named(row.name, name_width, keep_end),
                "name end",
            )
        )
        body.append(
            f'<rect class="bar" x="{name_width}" y="{y + 3}" width="{long:.1f}" '
            f'height="{row_height - 6}" rx="2"/>'
        )
        said = row.text or number(row.value)
        body.append(_text(name_width + long + 6, y + row_height * 0.68, said, "figure"))
        body.append("</a></g>" if row.href else "</g>")
    return svg(width, row_height * len(rows), title, body, "bars")


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval."""

    name: str
    value: float
    low: float
    high: float
    href: str = ""


def intervals(
    rows: Sequence[Interval], title: str, *, width: int = 560, low: float = 0.0, high: float = 1.0
) -> Markup:
    """Figures as dots with their intervals as lines, one below the other."""
    name_width, row_height = 190, 24
    across, height = width - name_width - 66, row_height * len(rows) + 22

    def at(x: float) -> float:
        return name_width + across * (min(max(x, low), high) - low) / ((high - low) or 1.0)

    body = []
    for x in ticks(low, high):
        body.append(_rule(at(x), 0, at(x), height - 20, "grid"))
        body.append(_text(at(x), height - 6, number(x), "tick middle"))
    for i, row in enumerate(rows):
        y = i * row_height + row_height / 2
        name = _text(name_width - 10, y + 4, named(row.name, name_width, True), "name end")
        body.append(f'<a href="{escape(row.href)}">{name}</a>' if row.href else name)
        body.append(_rule(at(row.low), y, at(row.high), y, "whisker"))
        body.append(f'<circle class="dot series-0" cx="{at(row.value):.1f}" cy="{y}" r="4"/>')
        body.append(_text(width - 4, y + 4, f"{row.value:.3f}", "figure end"))
    said = ", ".join(f"{r.name} {r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in rows)
    return svg(width, height, f"{title}: {said}", body)


def named(name: str, width: float, keep_end: bool) -> str:
    """A name on one line that fits into some pixels, shortened at its end or its beginning."""
    whole, most = one_line(name, 200), max(4, int((width - 8) / _LETTER))
    if len(whole) <= most:
        return whole
    return f"\u2026{whole[1 - most :]}" if keep_end else f"{whole[: most - 1]}\u2026"


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(shown(words))}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
