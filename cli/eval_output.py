"""How `s2d eval` prints scores and pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2d_store.evaluation.evaluate import Figure, Report


def print_report(report: Report, format_: str) -> None:
    """Print a report as tables, or as one JSON document."""
    import dataclasses
    import json

    if format_ == "json":
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return
    _print_scores(report)
    if len(report.scores) > 1:
        print()
        _print_pairs(report)


def _print_scores(report: Report) -> None:
    from cli.output import print_rows

    measures = [figure.measure for figure in report.scores[0].figures]
    rows: list[tuple[Any, ...]] = [
        (s.policy, s.prompts, s.rollouts, *(_cell(figure) for figure in s.figures))
        for s in report.scores
    ]
    print_rows(["policy", "prompts", "rollouts", *measures], rows)
    print(f"in brackets: 95% bootstrap intervals over prompts, {report.resamples:,} resamples")
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

    columns = ["policy", "against", "prompts", f"avg@{report.n} difference"]
    rows: list[tuple[Any, ...]] = [
        (
            pair.policy,
            pair.against,
            pair.prompts,
            f"{pair.difference:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]",
            pair.won,
            pair.lost,
            pair.tied,
        )
        for pair in report.pairs
    ]
    print_rows([*columns, "won", "lost", "tied"], rows)


def _cell(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    digits = 1 if figure.measure == "tokens" else 3
    return f"{figure.value:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"
