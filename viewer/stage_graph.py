"""A graph of boxes as SVG: left to right, each box after what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from viewer.charts import Interval, svg
from viewer.text import one_line, shown

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 196, 118, 62, 20, 8
# In the first line of a box: its title, and its kind where there is room.
_MOST_LETTERS = 24


@dataclass(frozen=True)
class Box:
    """A box: its title, a word on its kind, lines of figures, and a figure with its interval.

    Attributes:
        name: its key.
        title: first line.
        kind: beside the title.
        lines: figures, one line each.
        score: drawn as a dot with its interval on a scale of 0 to 1; None for none.
        href: what it opens.
        state: `running`, `chosen` or nothing.
    """

    name: str
    title: str
    kind: str = ""
    lines: Sequence[str] = field(default=())
    score: Interval | None = None
    href: str = ""
    state: str = ""


@dataclass(frozen=True)
class Edge:
    """An arrow from what was learned from, and how: `start` is solid, others are dashed."""

    source: str
    target: str
    relation: str


def columns_of(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The column of each box: one more than the largest of its sources'; circles are cut.

    Example:
        >>> columns_of(["a", "b", "c"], [Edge("a", "b", "start"), Edge("b", "c", "start")])
        {'a': 0, 'b': 1, 'c': 2}
    """
    sources: dict[str, list[str]] = {name: [] for name in names}
    for edge in edges:
        if edge.source in sources and edge.target in sources:
            sources[edge.target].append(edge.source)
    found: dict[str, int] = {}

    def place(name: str, within: frozenset[str]) -> int:
        if name not in found:
            inner = [place(s, within | {name}) for s in sources[name] if s not in within | {name}]
            found[name] = max(inner, default=-1) + 1
        return found[name]

    for name in names:
        place(name, frozenset())
    return {name: found[name] for name in names}


def draw(boxes: Sequence[Box], edges: Sequence[Edge], title: str) -> Markup:
    """The graph; boxes of one column stand in the order of their sources, then of `boxes`."""
    names = [box.name for box in boxes]
    column = columns_of(names, edges)
    row = _rows(names, edges, column)
    at = {
        name: (
            MARGIN + column[name] * (WIDTH + GAP_X),
            MARGIN + row[name] * (HEIGHT + GAP_Y),
        )
        for name in names
    }
    body = [_edge(edge, at) for edge in edges if edge.source in at and edge.target in at]
    body += [_box(box, *at[box.name]) for box in boxes]
    width = 2 * MARGIN + (max(column.values(), default=0) + 1) * (WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + (max(row.values(), default=0) + 1) * (HEIGHT + GAP_Y) - GAP_Y
    said = ", ".join(f"{e.target} from {e.source} ({e.relation})" for e in edges)
    return svg(width, height, f"{title}: {said}", body, "graph")


def _rows(names: Sequence[str], edges: Sequence[Edge], column: Mapping[str, int]) -> dict[str, int]:
    row: dict[str, int] = {}
    for index in range(max(column.values(), default=-1) + 1):
        here = [name for name in names if column[name] == index]

        def middle(name: str) -> float:
            above = [row[e.source] for e in edges if e.target == name and e.source in row]
            return sum(above) / len(above) if above else 0.0

        for place, name in enumerate(sorted(here, key=middle)):
            row[name] = place
    return row


def _edge(edge: Edge, at: Mapping[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = at[edge.source], at[edge.target]
    shift = 0.0 if edge.relation == "start" else 16.0
    x1, y1, y2 = x1 + WIDTH, y1 + HEIGHT / 2 + shift, y2 + HEIGHT / 2 + shift
    bend = max(24.0, (x2 - x1) / 2)
    kind = "start" if edge.relation == "start" else "other"
    path = f"M{x1:g} {y1:g} C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2 - 6:g} {y2:g}"
    tip = f"M{x2 - 7:g} {y2 - 4:g} L{x2:g} {y2:g} L{x2 - 7:g} {y2 + 4:g} Z"
    said = escape(shown(f"{edge.source} to {edge.target}: {edge.relation}"))
    return (
        f'<g class="edge {kind}"><title>{said}</title>'
        f'<path class="way" d="{path}"/><path class="tip" d="{tip}"/></g>'
    )


def _box(box: Box, x: float, y: float) -> str:
    title, kind = one_line(box.title, _MOST_LETTERS), one_line(box.kind, 10)
    if len(title) + len(kind) > _MOST_LETTERS:
        kind = ""
    inner = [
        f'<rect class="box" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="9"/>',
        f'<text class="title" x="{x + 12}" y="{y + 22}">{escape(title)}</text>',
        f'<text class="kind end" x="{x + WIDTH - 12}" y="{y + 22}">{escape(kind)}</text>',
    ]
    if box.score is not None:
        inner += _score(box.score, x + 12, y + 40)
    first = y + (68 if box.score is not None else 46)
    for i, line in enumerate(box.lines):
        words = escape(one_line(line, 34))
        inner.append(f'<text class="line" x="{x + 12}" y="{first + 15 * i}">{words}</text>')
    drawn = f'<g class="stage {box.state}">{"".join(inner)}</g>'
    return f'<a href="{escape(box.href)}">{drawn}</a>' if box.href else drawn


def _score(score: Interval, x: float, y: float) -> list[str]:
    across = 70.0

    def at(value: float) -> float:
        return x + across * min(1.0, max(0.0, value))

    said = escape(f"{shown(score.name)} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]")
    return [
        f'<line class="rail" x1="{x:g}" y1="{y:g}" x2="{x + across:g}" y2="{y:g}"/>',
        f'<line class="whisker" x1="{at(score.low):.1f}" y1="{y:g}" x2="{at(score.high):.1f}" '
        f'y2="{y:g}"/>',
        f'<circle class="dot series-0" cx="{at(score.value):.1f}" cy="{y:g}" r="4">'
        f"<title>{said}</title></circle>",
        f'<text class="score" x="{x + across + 10:g}" y="{y + 4:g}">{score.value:.3f} '
        f'<tspan class="kind">{escape(score.name)}</tspan></text>',
    ]
