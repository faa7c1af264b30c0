"""How `s2d eval` prints scores, and comparisons over prompts or over training seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2d_store.evaluation.figures import Comparison, Figure, Method, Report, Score


def print_report(report: Report, format_: str) -> None:
    """Print a report as tables, or as one JSON document."""
    import dataclasses
    import json

    if format_ == "json":
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    if report.methods:
        _print_methods(report.methods)
    else:
        _print_scores(report.scores)
    _print_notes(report)
    if report.pairs:
        print()
        _print_pairs(report)
    if report.method_pairs:
        print()
        _print_method_pairs(report)


def _print_scores(scores: Sequence[Score]) -> None:
    from cli.output import print_rows

    rows: list[tuple[Any, ...]] = [
        (figure.measure, score.policy, score.prompts, score.rollouts, *_cells(figure))
        for figures in zip(*([(s, f) for f in s.figures] for s in scores), strict=True)
        for score, figure in figures
    ]
    head = ["measure", "policy", "prompts", "rollouts", "mean", "standard error", "95% interval"]
    print_rows(head, rows)
    print("standard errors and intervals are over prompts: these weights on other prompts")


def _print_methods(methods: Sequence[Method]) -> None:
    from cli.output import print_rows

    rows: list[tuple[Any, ...]] = [
        (figure.measure, method.name, len(method.seeds), *_cells(figure))
        for figures in zip(*([(m, f) for f in m.figures] for m in methods), strict=True)
        for method, figure in figures
    ]
    print_rows(["measure", "method", "seeds", "mean", "standard error", "95% interval"], rows)
    print("standard errors and intervals are over training seeds: other seeds on these prompts")


def _print_notes(report: Report) -> None:
    """What each policy's figures leave out."""
    if report.unreadable:
        print(
            f"{len(report.unreadable)} gold answers cannot be read, so nobody is judged on them, "
            f"e.g. {report.unreadable[0]}"
        )
    for score in report.scores:
        if score.unjudged:
            print(
                f"{score.policy}: {score.unjudged} of {score.rollouts} rollouts were not judged "
                "(timeout, error) and are left out; s2d verify --retry grades them again"
            )
        if score.missing:
            print(
                f"{score.policy}: {score.missing} of {score.missing + score.prompts} prompts are "
                f"left out, without {report.n} graded rollouts"
            )
        if score.trained:
            print(f"{score.policy}: {score.trained} prompts were trained on")


def _print_pairs(report: Report) -> None:
    from cli.output import print_rows

    rows: list[tuple[Any, ...]] = [
        (pair.policy, pair.against, pair.prompts, *_tested(pair), pair.won, pair.lost, pair.tied)
        for pair in report.pairs
    ]
    head = ["policy", "against", "prompts", *_TESTED, "won", "lost", "tied"]
    print_rows(head, rows)
    _print_legend(report, len(rows))


def _print_method_pairs(report: Report) -> None:
    from cli.output import print_rows

    rows: list[tuple[Any, ...]] = [
        (pair.method, pair.against, pair.seeds, *_tested(pair)) for pair in report.method_pairs
    ]
    print_rows(["method", "against", "seeds", *_TESTED], rows)
    _print_legend(report, len(rows))
    for pair in report.method_pairs:
        if pair.unpaired:
            print(
                f"{pair.method} and {pair.against}: {pair.unpaired} seeds are left out, which only "
                "one of them has"
            )


_TESTED = ("difference", "standard error", "95% interval", "p (Holm)", "conclusion")


def _tested(pair: Comparison) -> tuple[str, ...]:
    shown = (f"{pair.difference:+.3f}", _number(pair.standard_error, 3))
    return *shown, _between(pair.low, pair.high, "+.3f"), _p(pair.p_holm), pair.conclusion


def _print_legend(report: Report, pairs: int) -> None:
    corrected = f"; p corrected for {pairs} pairs" if pairs > 1 else ""
    equivalent = "equivalence is tested with --margin alone"
    if report.margin:
        equivalent = f"equivalent: within {report.margin:g}, by two one-sided tests at 5%"
    print(f"differences of avg@{report.n}{corrected}; {equivalent}")


def _cells(figure: Figure) -> tuple[str, str, str]:
    digits = 1 if figure.measure == "tokens" else 3
    value, error = _number(figure.value, digits), _number(figure.standard_error, digits)
    return value, error, _between(figure.low, figure.high, f".{digits}f")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _between(low: float | None, high: float | None, form: str) -> str:
    return "-" if low is None or high is None else f"{low:{form}} to {high:{form}}"


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
