"""Growth curves as SVG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.findings import Report, grown

# Of the many queries and audits of benchmarks/scale.py.
OF_SCALE = (
    "budgets lineage",
    "analysis pass_rate",
    "group advantages",
    "audit contamination_ngram",
    "audit duplicate_rollouts",
    "audit topk_consistency",
)


def draw(reports: Mapping[str, Report], folder: Path) -> dict[str, str]:
    """Draw what there are figures for; returns the files' names by benchmark."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "s2d", "font.size": 9})
    from matplotlib import pyplot

    drawn = {}
    for name, picture in (("commits", commits), ("scale", scale)):
        if name in reports:
            figure = picture(pyplot, reports[name])
            figure.tight_layout()
            drawn[name] = f"growth_{name}.svg"
            figure.savefig(folder / drawn[name], metadata={"Date": None})
            pyplot.close(figure)
    return drawn


def commits(pyplot: Any, report: Report) -> Any:
    """What a commit and opening cost, and the log's size, over the number of commits."""
    names = list(grown(report))
    sizes = [int(name.replace(",", "")) for name in names]
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(10, 3.2))
    lines = {
        left: {
            "commit": "s2d",
            "commit CPU": "s2d, CPU",
            "delta-rs commit": "delta-rs",
            "look-up": "s2d, keys looked up",
        },
        middle: {"open": "table", "bare open": "table, no checkpoints", "snapshot": "store"},
        right: {"log MiB": "log"},
    }
    for axes, curves in lines.items():
        for key, label in curves.items():
            style = "--" if key.startswith(("bare", "delta-rs")) else "-"
            values = [report[name][key] for name in names]
            axes.plot(sizes, values, style, marker="o", markersize=3, label=label)
        axes.set_xscale("log")
        axes.set_xlabel("commits so far")
        axes.legend(frameon=False)
    for axes, title in ((left, "a commit, ms"), (middle, "opening, ms"), (right, "log, MiB")):
        axes.set_title(title)
    # From 1 ms on: what is flat looks flat, what grows a hundredfold fits.
    left.set(yscale="log", ylim=(1, 100_000))
    middle.set(yscale="log", ylim=(1, 100_000))
    right.set_ylim(bottom=0)
    return figure


def scale(pyplot: Any, report: Report) -> Any:
    """Seconds of some queries and audits over the rollouts of the store."""
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    sizes = [int(name.replace(",", "")) for name in report["seconds"]]
    for name in OF_SCALE:
        values = [times[name] for times in report["seconds"].values()]
        axes.plot(sizes, values, marker="o", markersize=3, label=name)
    axes.set_xlabel("rollouts in the store")
    axes.set_xticks(sizes, list(report["seconds"]))
    axes.set_ylabel("seconds")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure
