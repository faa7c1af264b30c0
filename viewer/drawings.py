"""Drawings of the pages' own records, made with `charts`: what templates call by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from viewer import charts
from viewer.params import Params
from viewer.text import percent, shown


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
    return charts.histogram(bins, part["title"])


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
    return charts.bars(rows, part["title"], width=270, name_width=110, row_height=18)


def _narrowed(here: Params, condition: str) -> str:
    before = here.text("where").strip()
    both = (
        f"({before}) AND {condition}" if " OR " in before.upper() else f"{before} AND {condition}"
    )
    return here.url(where=both if before else condition, offset=None)


FUNCTIONS = (topk_bars, cumulative_chart, turn_heads, bin_bars, word_bars)
