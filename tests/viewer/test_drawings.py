"""Charts, tokens and formulas as HTML: pure functions that escape text and meet the ends."""

from __future__ import annotations

import re
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewer import charts, latex, signals, stage_graph, text, tokens_html
from viewer.charts import Bar, Bin, Interval, Series

HOSTILE = "<script>alert(1)</script>\"'&\x1b\u202e"
LINK = f'/?where={quote(HOSTILE)}&"onmouseover=alert(1)'


def parsed(drawing: str) -> ElementTree.Element:
    """A drawing as XML, which it must be."""
    root = ElementTree.fromstring(drawing)
    assert root.get("role") == "img" and root.get("aria-label")
    assert "<script" not in drawing and "style=" not in drawing
    return root


@pytest.mark.parametrize(
    "drawing",
    [
        charts.line_chart([Series(HOSTILE, [(1, 2.0), (2, None), (3, 4.0)])], HOSTILE),
        charts.line_chart([], HOSTILE),
        charts.line_chart([Series("flat", [(1, 3.0), (2, 3.0)])], "flat", marks=(1.5,)),
        charts.line_chart([Series("nan", [(1, float("nan"))])], "nothing known"),
        charts.histogram([Bin(0, 1, 3, LINK), Bin(2, 3, 0)], HOSTILE),
        charts.histogram([], HOSTILE),
        charts.bars([Bar(HOSTILE, 1.0, HOSTILE, True, LINK)], HOSTILE),
        charts.bars([], HOSTILE),
        charts.intervals([Interval(HOSTILE, 0.5, 0.4, 0.6, LINK)], HOSTILE),
        stage_graph.draw(
            [stage_graph.Box(HOSTILE, HOSTILE, HOSTILE, [HOSTILE], None, LINK)], [], HOSTILE
        ),
    ],
)
def test_drawings_are_xml_whatever_they_are_given(drawing: str) -> None:
    parsed(drawing)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e9, 1e9) | st.none()), max_size=50),
    st.booleans(),
)
def test_lines_stay_inside_their_frame(points: list[tuple[int, float | None]], zero: bool) -> None:
    root = parsed(charts.line_chart([Series("s", points)], "t", zero=zero))
    width, height = (float(x) for x in (root.get("viewBox") or "").split()[2:])
    for line in root.iter("polyline"):
        for pair in (line.get("points") or "").split():
            x, y = map(float, pair.split(","))
            assert -0.1 <= x <= width + 0.1 and -0.1 <= y <= height + 0.1


def test_many_points_keep_their_peak() -> None:
    points = [(float(i), 0.0) for i in range(100_000)]
    points[54_321] = (54_321.0, 9.0)
    kept = charts.thinned(points, 600)
    assert len(kept) <= 700 and (54_321.0, 9.0) in kept


def test_stages_stand_right_of_what_they_came_from_even_in_a_circle() -> None:
    edges = [stage_graph.Edge(a, b, "start") for a, b in ("ab", "bc", "ac", "ca")]
    column = stage_graph.columns_of("abc", edges)
    assert column["b"] < column["c"] and set(column) == set("abc")


def test_a_long_name_of_a_stage_takes_the_place_of_its_kind() -> None:
    boxes = [stage_graph.Box(name, name, "opd", []) for name in ("bridge", "a" * 23)]
    assert stage_graph.draw(boxes, [], "stages").count(">opd</text>") == 1


@given(st.text())
def test_no_text_becomes_markup(words: str) -> None:
    html = latex.rendered(words)
    tags = set(re.findall(r"<\s*/?\s*([A-Za-z][\w-]*)", html))
    assert tags <= {*latex._ELEMENTS}
    assert not re.search(r"<[^>]*\s(on\w+|href|src|style)\s*=", html)
    shown = text.shown(words)
    assert not [c for c in shown if ord(c) < 32 and c not in "\t\n"]


@pytest.mark.parametrize(
    ("words", "drawn"),
    [
        (r"so \(x < 3\) holds", 1),
        (r"\[ \frac{1}{2} \]", 1),
        (r"$$a$$ and $b^2$", 2),
        (r"the answer is \boxed{\frac{1}{2}}", 1),
        ("it costs $5 and $6", 0),
        (r"not closed \(x", 0),
        (r"\(\frac{\)", 0),
    ],
)
def test_formulas_are_drawn_and_prices_are_not(words: str, drawn: int) -> None:
    assert latex.rendered(words).count("<math") == drawn


def test_what_a_formula_smuggles_in_is_left_out() -> None:
    html = latex.rendered(
        r"\(\text{<script>alert(1)</script>}\) \(\href{javascript:alert(1)}{x}\) "
        r"\(\style{color:red}{y}\) \(\text{<img src=x onerror=alert(1)>}\)"
    )
    inside = "".join(re.findall(r"<math.*?</math>", html))
    bare = re.sub(r'alttext="[^"]*"', "", inside)
    assert not re.search(r"script|href|onerror|<img|style=", bare)


def test_levels_are_symmetric_and_tokens_are_text() -> None:
    kl = next(s for s in signals.SIGNALS if s.name == "kl")
    assert [signals.level(kl, v) for v in (100.0, 3.0, 0.0, -3.0, None, float("inf"))] == [
        9,
        9,
        0,
        -9,
        0,
        0,
    ]
    html = tokens_html.token_spans([HOSTILE, None, "\n"], [1, 2, 3], [9, -9, 0], 1, {0: HOSTILE})
    assert html.count("<span") == 3 and 'class="h9"' in html and 'class="c9 at"' in html
    assert "<script" not in html and "\u27e82\u27e9" in html
    assert "(ends here)" in tokens_html.parted(["a"], 1) and tokens_html.parted(["a"], -1) == "a"
