"""Write docs/miniature.md and docs/miniature.svg from the miniature's store.

    python examples/miniature/report.py

Every figure comes from the store: accuracies by scores.sql, budgets by the query `lineage`, label
visits by visits.sql, and what was matched by `s2d audit`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.recipes.names import full_name, n_rounds
from cli.recipes.parse import read_recipe
from cli.recipes.tasks import Task, tasks
from s2d_store.accounting.policy_cost import COSTS, policy_costs
from s2d_store.audits.run import audit
from s2d_store.store import Store

HERE = Path(__file__).parent
# 97.5th percentile of Student's t by number of seeds.
T975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}
ARMS = {
    "teacher": "raw teacher",
    "rl-teacher": "RL teacher (Stage 1)",
    "student": "cold student",
    "cold-grpo": "cold GRPO",
    "raw-bridge": "raw-teacher bridge",
    "warmup": "RL-teacher warmup only",
    "opd-only": "OPD only",
    "bridge": "full bridge",
    "stage3": "bridge + Stage 3",
    "bridge-continuation": "bridge + bridge continuation",
    "warmup-200": "warmup only, as many updates as the bridge",
    "opd-200": "OPD only, as many updates as the bridge",
    "opd-20": "OPD only, cut to 20 updates",
    "bridge-20": "bridge with OPD cut to 20 updates",
    "cold-grpo-compute": "cold GRPO, as much compute as the bridge",
}
CLAIMS = (
    ("a", "RL-teacher bridge over cold GRPO", "bridge", "cold-grpo"),
    ("a", "the same at equal compute", "bridge", "cold-grpo-compute"),
    ("b", "raw-teacher bridge below cold GRPO", "cold-grpo", "raw-bridge"),
    ("c", "what OPD adds to the warmup", "bridge", "warmup"),
    ("c", "the same at equal updates", "bridge", "warmup-200"),
    ("c", "what the warmup adds to OPD", "bridge", "opd-only"),
    ("c", "the same at equal updates", "bridge", "opd-200"),
    ("c", "the same where OPD is cut to 20 updates", "bridge-20", "opd-20"),
    ("d", "what Stage 3 adds", "stage3", "bridge"),
    ("d", "its bridge continuation does not", "bridge-continuation", "bridge"),
    ("d", "Stage 3 over its bridge continuation", "stage3", "bridge-continuation"),
)
AUDITS = (
    "contamination_exact",
    "replay_matched",
    "staleness",
    "tokenizers",
    "topk_alignment",
    "teacher_reward_shaped",
)


@dataclass(frozen=True)
class Arm:
    """An arm's accuracies by seed, and what it cost on average, its whole lineage included."""

    accuracies: tuple[float, ...]
    costs: Mapping[str, float]
    visits: float

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def sd(self) -> float:
        """Its sample standard deviation."""
        return statistics.stdev(self.accuracies)


def read_arms(store: Store, recipe: str, all_tasks: Sequence[Task]) -> dict[str, Arm]:
    """Every arm of ARMS that the recipe evaluated."""
    by_name = {task.name: task for task in all_tasks}
    scores = {row[0]: row[4] for row in rows(store, HERE / "scores.sql")}
    visits = dict(rows(store, HERE / "visits.sql"))
    arms, con = {}, store.connect()
    for arm in ARMS:
        if arm not in scores:
            continue
        mine = [by_name[name] for name in by_name if name.rpartition(".s")[0] == arm]
        mine = mine[: len(scores[arm])]
        made = [full_name(recipe, task, n_rounds(by_name, task) - 1) for task in mine]
        costs = [*policy_costs(con, made)] or [dict.fromkeys(COSTS, 0.0)]
        visited = [sum(visits.get(n, 0) for n in behind(by_name, task)) for task in mine] or [0]
        average = {name: statistics.fmean(c[name] for c in costs) for name in COSTS}
        arms[arm] = Arm(tuple(scores[arm]), average, statistics.fmean(visited))
    return arms


def behind(by_name: Mapping[str, Task], task: Task) -> set[str]:
    """A task and every task that its policy comes from, its teachers' included."""
    found = {task.name}
    for ref in (task.stage.start, task.stage.teacher):
        if ref in task.tasks:
            found |= behind(by_name, by_name[task.tasks[ref]])
    return found


def rows(store: Store, file: Path) -> list[tuple[Any, ...]]:
    """A query file's rows."""
    return store.sql(file.read_text(encoding="utf-8")).fetchall()


def interval(a: Arm, b: Arm) -> tuple[float, float]:
    """Mean difference of two arms over the seeds that both have, and half its 95% t interval."""
    differences = [x - y for x, y in zip(a.accuracies, b.accuracies, strict=False)]
    n = len(differences)
    if n == 1:
        return differences[0], float("nan")
    return statistics.fmean(differences), T975[n] * statistics.stdev(differences) / n**0.5


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def scores_table(arms: Mapping[str, Arm]) -> str:
    """Accuracy and budgets of every arm."""
    head = [
        "arm",
        "accuracy",
        "seeds",
        "labels",
        "label visits",
        "generated",
        "scored",
        "trained",
        "updates",
        "GFLOPs",
    ]
    body = []
    for name, arm in arms.items():
        c = arm.costs
        body.append(
            [
                ARMS[name],
                f"{arm.mean:.3f}" + (f" ± {arm.sd:.3f}" if len(arm.accuracies) > 1 else ""),
                str(len(arm.accuracies)),
                f"{c['labels']:,.0f}",
                f"{arm.visits:,.0f}",
                *(f"{c[k]:,.0f}" for k in ("generated_tokens", "scored_tokens", "trained_tokens")),
                f"{c['updates']:,.0f}",
                f"{c['flops'] / 1e9:,.0f}",
            ]
        )
    return table(head, body)


def claims_table(arms: Mapping[str, Arm]) -> str:
    """The paper's orderings, held or not, and what the two sides have in common."""
    head = ["", "comparison", "difference", "95% interval", "holds", "matched", "not matched"]
    body = []
    for letter, text, a, b in CLAIMS:
        if a not in arms or b not in arms:
            continue
        mean, half = interval(arms[a], arms[b])
        expected_zero = text == "its bridge continuation does not"
        held = "yes" if mean > half else "no" if mean < -half else "not clear"
        if expected_zero and mean <= half:
            held = "yes: no gain"
        between = f"{mean - half:+.3f} to {mean + half:+.3f}"
        if half != half:
            held, between = "yes" if mean > 0 else "no", "one seed"
        same, differs = matched(arms[a], arms[b])
        body.append(
            [
                letter,
                text,
                f"{mean:+.3f}",
                between,
                held,
                same,
                differs,
            ]
        )
    return table(head, body)


def matched(a: Arm, b: Arm) -> tuple[str, str]:
    """Which budgets of two arms are equal within 3%, and the ratios of the others."""
    figures = {
        "labels": (a.costs["labels"], b.costs["labels"]),
        "label visits": (a.visits, b.visits),
        "updates": (a.costs["updates"], b.costs["updates"]),
        "trained tokens": (a.costs["trained_tokens"], b.costs["trained_tokens"]),
        "FLOPs": (a.costs["flops"], b.costs["flops"]),
    }
    same = [name for name, (x, y) in figures.items() if abs(x - y) <= 0.03 * max(x, y, 1e-9)]
    ratios = [
        f"{name} {x / y:.2g} x" if y else f"{name} {x:,.0f} to 0"
        for name, (x, y) in figures.items()
        if name not in same
    ]
    return ", ".join(same) or "none", ", ".join(ratios) or "none"


def closeness_table(store: Store, arms: Mapping[str, Arm]) -> str:
    """How near the arms with OPD come to their teacher, how sharp they end, and how accurate."""
    head = ["arm", "KL, first round", "KL, last round", "entropy, last round", "wrong", "copied"]
    found = {arm: figures for arm, *figures in rows(store, HERE / "closeness.sql")}
    mistakes = {arm: figures for arm, *figures in rows(store, HERE / "errors.sql")}
    body = [
        [ARMS[arm], *(f"{figure:.3f}" for figure in [*found[arm], *mistakes[arm]])]
        for arm in arms
        if arm in found and arm != "raw-bridge"
    ]
    return table(head, body)


def audits_table(store: Store) -> str:
    """What `s2d audit` says of the store."""
    found = audit(store, AUDITS)
    return table(
        ["audit", "result"],
        [[f"`{result.name}`", result.status] for result in found],
    )


def plot(arms: Mapping[str, Arm], file: Path) -> None:
    """A bar an arm, a dot a seed."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "s2d", "font.size": 9})
    from matplotlib import pyplot

    names = list(reversed(arms))
    figure, axes = pyplot.subplots(figsize=(7.5, 0.36 * len(names) + 0.8))
    later = ("stage3", "bridge-continuation")
    colors = ["#4878a8" if name not in later else "#a87848" for name in names]
    axes.barh([ARMS[n] for n in names], [arms[n].mean for n in names], color=colors, height=0.62)
    for y, name in enumerate(names):
        axes.plot(arms[name].accuracies, [y] * len(arms[name].accuracies), "k.", markersize=4)
    axes.set_xlim(0, 1)
    axes.set_xlabel("accuracy on held-out prompts (avg@4); bars: mean, dots: seeds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Read the store, write page and picture."""
    parser = argparse.ArgumentParser(description="Write docs/miniature.md from the store.")
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "miniature.toml")
    parser.add_argument("--output", type=Path, default=HERE.parent.parent / "docs")
    args = parser.parse_args()
    recipe = read_recipe(args.recipe)
    store = Store.open(recipe.store)
    arms = read_arms(store, recipe.name, tasks(recipe))
    plot(arms, args.output / "miniature.svg")
    text = (HERE / "page.md").read_text(encoding="utf-8")
    page = text.format(
        scores=scores_table(arms),
        claims=claims_table(arms),
        closeness=closeness_table(store, arms),
        audits=audits_table(store),
    )
    (args.output / "miniature.md").write_text(page, encoding="utf-8")
    print(args.output / "miniature.md")


if __name__ == "__main__":
    main()
