"""The tables of docs/miniature.md, one function per table, from a task's seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from results import TaskResults, Verdict

ARMS = {
    "teacher": "raw teacher",
    "rl-teacher": "RL'd teacher, 1H",
    "rl-teacher-full": "RL'd teacher, 1H + 2H",
    "sft-teacher": "SFT'd teacher, 1H",
    "student": "student",
    "cold-grpo": "R1 cold GRPO",
    "cold-grpo-2x": "cold GRPO, 2 times the updates",
    "cold-grpo-compute": "cold GRPO, R3-full's compute",
    "bridge-raw": "raw teacher's bridge",
    "bridge-sft": "R6 SFT'd teacher's bridge",
    "warmup": "warmup (2a) of the bridge",
    "bridge": "R5 bridge on 1H",
    "bridge-full": "R3-full bridge on 1H + 2H",
    "bridge-same-size": "same-size RL'd teacher's bridge",
    "opd-only": "R8 OPD only",
    "opd-only-long": "OPD only, 2 times the updates",
    "sample-sft": "R2 teacher-sample SFT",
    "sample-sft-long": "teacher-sample SFT, 4 passes",
    "stage3": "R5 after Stage 3",
    "stage3-sft": "R6 after Stage 3",
    "stage3-opd-only": "R8 after Stage 3",
    "stage3-sample-sft": "R2 after Stage 3",
    "replay": "R7 replay of R5",
    "replay-sft": "R7 replay of R6",
    "bridge-continuation": "bridge continuation",
    "fresh-opd": "fresh OPD",
    "continuation": "plain continuation",
}
COSTS = (
    "labels",
    "label_visits",
    "generated_tokens",
    "scored_tokens",
    "trained_tokens",
    "updates",
)


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(task: TaskResults, arm: str) -> str:
    """An arm's accuracy in percent, with its standard error over seeds."""
    values = task.values(arm)
    if not values:
        return ""
    mean = f"{100 * statistics.fmean(values):.1f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values) / len(values) ** 0.5:.1f}"


def scores_table(task: TaskResults) -> str:
    """Accuracy and budgets of every arm."""
    head = ["arm", "avg@4, %", *(name.replace("_", " ") for name in COSTS), "GFLOPs"]
    body = [
        [
            ARMS[arm],
            percent(task, arm),
            *(f"{task.mean(arm, cost) or 0:,.0f}" for cost in COSTS),
            f"{(task.mean(arm, 'flops') or 0) / 1e9:,.0f}",
        ]
        for arm in task.arms
    ]
    return table(head, body)


def summary(found: Sequence[Verdict]) -> str:
    """How many claims hold, and which do not."""
    if found[0].holds == "one seed":
        return "One seed decides nothing: the differences have no interval yet."
    groups = {
        "hold": [v for v in found if v.holds == "yes"],
        "do not hold": [v for v in found if v.holds.startswith("no:")],
        "are not decided": [v for v in found if v.holds == "not decided"],
    }
    counts = ", ".join(f"{len(mine)} {said}" for said, mine in groups.items())
    lines = [
        f"- {said}: {_texts(mine)}" for said, mine in groups.items() if mine and said != "hold"
    ]
    return "\n".join([f"Of {len(found)} comparisons {counts}.", "", *lines])


def _texts(found: Sequence[Verdict]) -> str:
    return "; ".join(f"{v.claim.text} ({100 * v.difference:+.1f})" for v in found)


def claims_table(found: Sequence[Verdict]) -> str:
    """Every claim with its difference in points, interval, and what the two sides share."""
    head = ["claim", "difference", "95% interval", "p (Holm)", "holds", "matched", "not matched"]
    return table(
        head,
        [
            [
                v.claim.text + (f" (margin {100 * v.claim.margin:g})" if v.claim.same else ""),
                f"{100 * v.difference:+.1f}",
                _between(v),
                "" if v.p is None else "< 0.001" if v.p < 0.001 else f"{v.p:.3f}",
                v.holds,
                ", ".join(v.alike) or "none",
                ", ".join(v.others) or "none",
            ]
            for v in found
        ],
    )


def _between(verdict: Verdict) -> str:
    low, high = verdict.test.low, verdict.test.high
    if low is None or high is None:
        return "one seed"
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def closeness_table(task: TaskResults) -> str:
    """How near the dense arms come to their teachers, and whose their mistakes are."""
    names = ("first_kl", "last_kl", "last_entropy", "copied")
    head = ["arm", "KL, first round", "KL, last round", "entropy, last round", "copied"]
    body = [
        [ARMS[arm], *(_figure(task.mean(arm, name)) for name in names)]
        for arm in task.arms
        if task.mean(arm, "first_kl") is not None or arm in ("warmup", "sample-sft")
    ]
    return table(head, body)


def signal_table(task: TaskResults) -> str:
    """What the rewards of the RL stages told."""
    names = ("first_pass_rate", "last_pass_rate", "first_mixed", "last_mixed")
    head = ["stage", "pass rate, first round", "last round", "mixed prompts, first round", "last"]
    body = [
        [ARMS[arm], *(_figure(task.mean(arm, name)) for name in names)]
        for arm in task.arms
        if arm.startswith(("rl-", "cold-", "stage3", "replay")) and task.values(arm, "first_mixed")
    ]
    return table(head, body)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def audits_table(task: TaskResults) -> str:
    """What `s2d audit` says of each seed's store."""
    return table(
        ["audit", "result"], [[f"`{name}`", task.audit(name)] for name in task.seeds[0]["audits"]]
    )


def circumstances(task: TaskResults) -> str:
    """Which seeds the page stands on, and what they took."""
    seeds = ", ".join(str(seed["seed"]) for seed in task.seeds)
    minutes = statistics.fmean(seed["seconds"] for seed in task.seeds) / 60
    dates = sorted({seed["date"] for seed in task.seeds})
    codes = sorted({seed["code_version"] for seed in task.seeds})
    versions = sorted({seed["versions"].get("torch", "?") for seed in task.seeds})
    noun = "Seed" if len(task.seeds) == 1 else "Seeds"
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return (
        f"{noun} {seeds} ({len(task.seeds)} of {len(task.recipe.seeds)}), made {days}"
        f" by s2d {', '.join(codes)} with torch {', '.join(versions)};"
        f" {minutes:.0f} minutes of one process per seed by the clock, other work beside it."
    )
