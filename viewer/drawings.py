"""Drawings of the pages' own records, made with `charts`: what templates call by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from viewer import charts, stage_graph
from viewer.params import Params
from viewer.text import cell, duration, number, percent, shown

_MOST_BARS = 40
_NARROW = {"width": 180, "name_width": 76}


def topk_bars(side: Mapping[str, Any], most: int, token_id: int | None) -> Markup:
    """The likeliest tokens of a policy as bars, the sampled one marked, the tail last."""
    entries = side["entries"]
    rows = [
        charts.Bar(
            visible(entry["token"], entry["token_id"]),
            math.exp(entry["logprob"]),
            percent(math.exp(entry["logprob"])),
            entry["token_id"] == token_id,
        )
        for entry in entries
        if entry in entries[:most] or entry["token_id"] == token_id
    ]
    rest = sum(math.exp(e["logprob"]) for e in entries[most:] if e["token_id"] != token_id)
    if rest:
        rows.append(charts.Bar(f"{len(entries) - len(rows)} more", rest, percent(rest)))
    rows.append(charts.Bar("(tail)", side["tail"], percent(side["tail"])))
    if token_id not in [e["token_id"] for e in entries] and side["sampled_logprob"] is not None:
        chance = math.exp(side["sampled_logprob"])
        rows.append(charts.Bar("(sampled)", chance, percent(chance), True))
    return charts.bars(rows, f"likeliest tokens of {side['scorer']}", most=1.0, width=270)


def visible(token: str | None, token_id: int) -> str:
    """A token on one line, its spaces and breaks seen."""
    if token is None:
        return f"\u27e8{token_id}\u27e9"
    return shown(token, 24).replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u21e5")


def cumulative_chart(sums: Mapping[str, Sequence[float]]) -> Markup:
    """Running KL of each scorer over the response's tokens."""
    lines = [charts.Series(name, list(enumerate(values))) for name, values in sums.items()]
    return charts.line_chart(
        lines, "cumulative KL, nats", x_label="token", width=760, height=170, zero=True
    )


def turn_heads(turns: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """The role of each turn, by the token that it starts with; none for a single turn."""
    return {turn["start"]: turn["role"] for turn in turns} if len(turns) > 1 else {}


def bin_bars(part: Mapping[str, Any], here: Params) -> Markup:
    """A histogram of rollouts; a bar adds its range to the filter."""
    bins = [
        charts.Bin(b["low"], b["high"], b["count"], _narrowed(here, b["condition"]))
        for b in part["bins"]
    ]
    return charts.histogram(bins, part["title"], width=180)


def word_bars(part: Mapping[str, Any], here: Params) -> Markup:
    """Counts of rollouts by word; a bar adds its word to the filter."""
    rows = [
        charts.Bar(
            "none" if w["value"] is None else w["value"],
            w["count"],
            f"{w['count']:,}",
            href=_narrowed(here, w["condition"]),
        )
        for w in part["words"]
    ]
    # Policies have long names, and their drawing the room of two.
    room = {"width": 340, "name_width": 170} if part["column"] == "policy" else _NARROW
    return charts.bars(rows, part["title"], row_height=18, keep_end=True, **room)


def _narrowed(here: Params, condition: str) -> str:
    before = here.text("where").strip()
    both = (
        f"({before}) AND {condition}" if " OR " in before.upper() else f"{before} AND {condition}"
    )
    return here.url(where=both if before else condition, offset=None)


def stages_drawn(
    boxes: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, str]],
    measure: str,
    chosen: str,
    links: str = "/?{query}#curves",
) -> Markup:
    """The stages of an experiment as a graph, rounds folded; `links` is where a box leads."""
    drawn = [_stage_box(box, measure, chosen, links) for box in boxes]
    arrows = [stage_graph.Edge(e["source"], e["target"], e["relation"]) for e in edges]
    return stage_graph.draw(drawn, arrows, "stages")


def _stage_box(box: Mapping[str, Any], measure: str, chosen: str, links: str) -> stage_graph.Box:
    score, rounds = box["score"], box["rounds"]
    lines = []
    if rounds:
        lines = [
            f"{number(box['labels'])} labels \u00b7 {number(box['updates'])} updates",
            f"{number(box['tokens'])} tokens \u00b7 {number(box['flops'])}FLOP",
            f"{duration(box['seconds'])}{' so far' if box['running'] else ''}",
        ]
    elif box.get("n_parameters"):
        lines = [f"{number(box['n_parameters'])} parameters"]
    return stage_graph.Box(
        box["name"],
        f"{box['name']} \u00d7{rounds}" if rounds > 1 else box["name"],
        box.get("kind") or "policy",
        lines,
        _interval(score, measure) if score else None,
        links.format(query=urlencode({"stage": box["name"]})) if rounds else "",
        "chosen" if box["name"] == chosen else "running" if box.get("running") else "",
    )


def _interval(score: Mapping[str, Any], name: str) -> charts.Interval:
    low, high = (score["value"] if score[end] is None else score[end] for end in ("low", "high"))
    return charts.Interval(name, score["value"], low, high)


def scores_drawn(scores: Sequence[Mapping[str, Any]], measure: str) -> Markup:
    """Evaluated policies with their intervals."""
    rows = [_interval(row, row["policy"] or row["run_id"]) for row in scores]
    return charts.intervals(rows, measure)


def curve_drawn(curves: Mapping[str, Any], name: str) -> Markup:
    """One figure of a stage over its updates."""
    line = charts.Series(name, list(zip(curves["steps"], curves["figures"][name], strict=True)))
    title = curves["titles"][name]
    return charts.line_chart([line], title, x_label="update", marks=curves["rounds_begin"])


def updates_drawn(updates: Sequence[Mapping[str, Any]], column: str) -> Markup:
    """A figure of a dataset by update."""
    line = charts.Series(column, [(row["update"], row[column]) for row in updates])
    return charts.line_chart([line], f"{column} by update", x_label="update", zero=True, height=110)


def spent_drawn(stages: Sequence[Mapping[str, Any]], metric: str) -> Markup:
    """What each stage spent of one metric; tokens of all three kinds together."""
    kinds = ("generated_tokens", "scored_tokens", "trained_tokens")
    rows = [
        charts.Bar(
            row["name"] or "no stage",
            sum(row[kind] for kind in kinds) if metric == "tokens" else row[metric],
        )
        for row in stages
    ]
    return charts.bars(
        rows, f"{metric} by stage", width=320, name_width=100, row_height=22, keep_end=True
    )


def result_drawn(result: Mapping[str, Any]) -> Markup:
    """Two columns of a query's result as a line or bars."""
    chart, columns = result["chart"], result["columns"]
    at_x, at_y = columns.index(chart["x"]), columns.index(chart["y"])
    pairs = [(row[at_x], row[at_y]) for row in result["rows"] if row[at_y] is not None]
    title = f"{chart['y']} by {chart['x']}"
    if chart["kind"] == "line" and chart["x"] in chart["numbers"]:
        points = sorted((x, y) for x, y in pairs if x is not None)
        line = charts.Series(chart["y"], points)
        return charts.line_chart([line], title, x_label=chart["x"], width=820, height=240)
    rows = [charts.Bar("none" if x is None else cell(x), float(y)) for x, y in pairs[:_MOST_BARS]]
    return charts.bars(rows, title, width=820, name_width=220)


FUNCTIONS = (
    *(topk_bars, cumulative_chart, turn_heads, bin_bars, word_bars),
    *(stages_drawn, scores_drawn, curve_drawn, updates_drawn, spent_drawn, result_drawn),
)
