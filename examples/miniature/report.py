"""Write docs/miniature.md, docs/miniature.svg and the miniature's figures in docs/paper.md.

    python examples/miniature/report.py [--check]

Every figure comes from results/TASK/seed-N.json. `--check` writes nothing and exits 1 where a page
says something else than these files.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paper_page import with_figures
from results import HERE, TaskResults, read_task, verdicts
from tables import (
    ARMS,
    audits_table,
    circumstances,
    claims_table,
    closeness_table,
    scores_table,
    signal_table,
    summary,
)

from s2d_store.statistics import t_interval

DOCS = HERE.parent.parent / "docs"
TASKS = ("expressions", "addition")


def plot(found: Sequence[TaskResults], file: Path) -> None:
    """One panel per task: a bar per arm, its 95% interval over seeds, a dot per seed."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "s2d", "font.size": 9})
    from matplotlib import pyplot

    arms = list(reversed(ARMS))
    figure, panels = pyplot.subplots(
        1,
        len(found),
        figsize=(3 + 3.2 * len(found), 0.26 * len(arms) + 0.9),
        sharey=True,
        squeeze=False,
    )
    for axes, task in zip(panels[0], found, strict=True):
        values = [[100 * value for value in task.values(arm)] for arm in arms]
        colors = [_color(arm) for arm in arms]
        axes.barh(
            [ARMS[a] for a in arms],
            [statistics.fmean(v) for v in values],
            color=colors,
            height=0.66,
        )
        for y, mine in enumerate(values):
            axes.plot(mine, [y] * len(mine), "k.", markersize=3)
            low, high = _interval(mine)
            axes.plot([low, high], [y, y], "k-", linewidth=0.8)
        axes.set_xlim(0, 100)
        axes.margins(y=0.01)
        axes.set_title(task.title, fontsize=9)
        axes.set_xlabel("avg@4 on held-out prompts, %")
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def _interval(values: Sequence[float]) -> tuple[float, float]:
    import numpy as np

    found = t_interval(np.array(values))
    return (values[0], values[0]) if found.low is None or found.high is None else found[1:]


def _color(arm: str) -> str:
    if arm.startswith(("teacher", "rl-", "sft-")):
        return "#8a8a8a"
    if arm.startswith(("stage3", "replay", "fresh", "continuation", "bridge-continuation")):
        return "#a87848"
    return "#4878a8"


def pages(found: Sequence[TaskResults]) -> dict[Path, str]:
    """Every page that has the miniature's figures, as these files would have it."""
    text = (HERE / "page.md").read_text(encoding="utf-8")
    made: Mapping[str, Callable[[TaskResults], str]] = {
        "circumstances": circumstances,
        "scores": scores_table,
        "summary": lambda task: summary(verdicts(task)),
        "claims": lambda task: claims_table(verdicts(task)),
        "closeness": closeness_table,
        "signal": signal_table,
        "audits": audits_table,
    }
    for task in found:
        for name, make in made.items():
            text = text.replace(
                f"{{{task.name}.{name}}}", make(task) if task.seeds else "No seed yet."
            )
    paper = DOCS / "paper.md"
    return {
        DOCS / "miniature.md": text,
        paper: with_figures(paper.read_text(encoding="utf-8"), found),
    }


def main() -> None:
    """Read the seeds, write or check the pages."""
    parser = argparse.ArgumentParser(description="Write the pages from the seeds' figures.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where one is stale")
    args = parser.parse_args()
    found = [read_task(task) for task in TASKS]
    stale = []
    for path, text in pages(found).items():
        if args.check and path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
        elif not args.check:
            path.write_text(text, encoding="utf-8")
            print(path)
    done = [task for task in found if task.seeds]
    if done and not args.check:
        plot(done, DOCS / "miniature.svg")
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run python examples/miniature/report.py")


if __name__ == "__main__":
    main()
