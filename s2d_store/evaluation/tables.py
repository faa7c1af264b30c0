"""The tables of an evaluation: scores and comparisons as columns, rows and notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from s2d_store.evaluation.figures import Comparison, Figure, Report

Table = tuple[list[str], list[tuple[Any, ...]], list[str]]
_OVER_PROMPTS = "standard errors and intervals are over prompts: these weights on other prompts"
_OVER_SEEDS = "standard errors and intervals are over training seeds: other seeds on these prompts"


def tables(report: Report, *, raw: bool = False) -> Iterator[Table]:
    """Columns, rows and notes of each table of a report: scores, then comparisons.

    Args:
        report: the report.
        raw: numbers as they are, an interval in two columns; else as a reader wants them.
    """
    yield _scores(report, raw)
    if report.pairs:
        yield (
            ["policy", "against", "prompts", *_tested_columns(raw), "won", "lost", "tied"],
            [
                (p.policy, p.against, p.prompts, *_tested(p, raw), p.won, p.lost, p.tied)
                for p in report.pairs
            ],
            [_legend(report, len(report.pairs))],
        )
    if report.method_pairs:
        yield (
            ["method", "against", "seeds", *_tested_columns(raw)],
            [(p.method, p.against, p.seeds, *_tested(p, raw)) for p in report.method_pairs],
            [_legend(report, len(report.method_pairs)), *_unpaired(report)],
        )


def notes(report: Report) -> Iterator[str]:
    """What each policy's figures leave out."""
    if report.unreadable:
        yield (
            f"{len(report.unreadable)} gold answers cannot be read, so nobody is judged on them, "
            f"e.g. {report.unreadable[0]}"
        )
    for score in report.scores:
        if score.unjudged:
            yield (
                f"{score.policy}: {score.unjudged} of {score.rollouts} rollouts were not judged "
                "(timeout, error) and are left out; s2d verify --retry grades them again"
            )
        if score.missing:
            yield (
                f"{score.policy}: {score.missing} of {score.missing + score.prompts} prompts are "
                f"left out, without {report.n} graded rollouts"
            )
        if score.trained:
            yield f"{score.policy}: {score.trained} prompts were trained on"


def _scores(report: Report, raw: bool) -> Table:
    """A row per measure and policy, or method; of n = 1, measures that are the same share it."""
    sides: list[tuple[tuple[Any, ...], tuple[Figure, ...]]]
    if report.methods:
        head, note = ["measure", "method", "seeds"], _OVER_SEEDS
        sides = [((m.name, len(m.seeds)), m.figures) for m in report.methods]
    else:
        head, note = ["measure", "policy", "prompts", "rollouts"], _OVER_PROMPTS
        sides = [((s.policy, s.prompts, s.rollouts), s.figures) for s in report.scores]
    by_measure = zip(*([(name, f) for f in figures] for name, figures in sides), strict=True)
    merged: dict[tuple[str, tuple[tuple[Any, ...], ...]], list[str]] = {}
    for line in by_measure:
        measure = line[0][1].measure
        shown = tuple((*name, *_cells(figure, raw)) for name, figure in line)
        is_alone = raw or report.n > 1 or "@" not in measure
        merged.setdefault((measure if is_alone else "", shown), []).append(measure)
    rows = [
        (" = ".join(measures), *cells) for (_, shown), measures in merged.items() for cells in shown
    ]
    return [*head, "mean", *_error_columns(raw)], rows, [note]


def _unpaired(report: Report) -> list[str]:
    return [
        f"{pair.method} and {pair.against}: {pair.unpaired} seeds are left out, which only one of "
        "them has"
        for pair in report.method_pairs
        if pair.unpaired
    ]


def _error_columns(raw: bool) -> list[str]:
    return ["standard error", "low", "high"] if raw else ["standard error", "95% interval"]


def _tested_columns(raw: bool) -> list[str]:
    return ["difference", *_error_columns(raw), "p (Holm)", "conclusion"]


def _tested(pair: Comparison, raw: bool) -> tuple[Any, ...]:
    if raw:
        errors = (pair.standard_error, pair.low, pair.high, pair.p_holm)
        return pair.difference, *errors, pair.conclusion
    shown = (f"{pair.difference:+.3f}", _number(pair.standard_error, 3))
    return *shown, _between(pair.low, pair.high, "+.3f"), _p(pair.p_holm), pair.conclusion


def _legend(report: Report, pairs: int) -> str:
    corrected = f"; p corrected for {pairs} pairs" if pairs > 1 else ""
    equivalent = "equivalence is tested with --margin alone"
    if report.margin:
        equivalent = f"equivalent: within {report.margin:g}, by two one-sided tests at 5%"
    return f"differences of avg@{report.n}{corrected}; {equivalent}"


def _cells(figure: Figure, raw: bool) -> tuple[Any, ...]:
    if raw:
        return figure.value, figure.standard_error, figure.low, figure.high
    digits = 1 if figure.measure == "tokens" else 3
    value, error = _number(figure.value, digits), _number(figure.standard_error, digits)
    return value, error, _between(figure.low, figure.high, f".{digits}f")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _between(low: float | None, high: float | None, form: str) -> str:
    return "-" if low is None or high is None else f"{low:{form}} to {high:{form}}"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
