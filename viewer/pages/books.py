"""The books: what was spent, by stage and run, against the budget, and behind one policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s2d_store.accounting.budget_file import Budget
from viewer import spending
from viewer.page import Page
from viewer.pages import experiment
from viewer.params import Params
from viewer.snapshots import View

METRICS = {
    "labels": "labels spent",
    "label_visits": "label visits",
    "generated_tokens": "tokens generated",
    "scored_tokens": "tokens scored",
    "trained_tokens": "tokens trained on",
    "updates": "updates",
    "flops": "FLOPs (estimate)",
}


def load(view: View, params: Params) -> dict[str, Any]:
    """What was spent on training, or with `purpose=any` on evaluation, too; of `policy`, in all.

    As on the page of the experiment, `pending` is true until a large store is added up.
    """
    purpose = params.choice("purpose", ("train", "any"), "train")
    policies = [row["policy"] for row in view.asked("stage_policies")]
    chosen = params.choice("policy", policies)
    key = ("books", purpose, chosen)
    figures: dict[str, Any] | None = view.soon(
        key, lambda: _figures(view, purpose, policies, chosen), patient=params.patient
    )
    whole = {"pending": not figures, "purpose": purpose, "metrics": METRICS, "policies": policies}
    if not figures:
        return whole
    boxes, edges = experiment.graph(view)
    drawn = behind(figures["policy"], boxes, edges)
    return whole | figures | drawn | {"budget": _budget(view)}


def _figures(view: View, purpose: str, policies: Sequence[str], chosen: str) -> dict[str, Any]:
    """All that takes its time: by stage, role and run, and behind the chosen policy or the best."""
    counted = "" if purpose == "any" else purpose
    spent = spending.asked(view, "spending", purpose=counted)
    stages = [row["stage"] for row in view.asked("stages")]
    by_stage = [row for row in spent if row["scope"] == "stage"]
    by_stage.sort(key=lambda row: stages.index(row["name"]) if row["name"] in stages else -1)
    policy = chosen or _best(view, policies)
    experiment.graph(view)
    lineage = spending.asked(view, "lineage", policy=policy, purpose=counted) if policy else []
    return {
        "total": next(row for row in spent if row["scope"] == "experiment"),
        "by_stage": by_stage,
        "by_role": [row for row in spent if row["scope"] == "role"],
        "by_run": [row for row in spent if row["scope"] == "run"],
        "policy": policy,
        "lineage": lineage,
        "measure": experiment.scores_of(view)[1],
    }


def behind(
    policy: str, boxes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """The boxes from which the policy's own can be reached, and the edges between them."""
    reached = {box["name"] for box in boxes if policy in box["policies"]}
    while more := {e["source"] for e in edges if e["target"] in reached} - reached:
        reached |= more
    return {
        "boxes": [box for box in boxes if box["name"] in reached],
        "edges": [e for e in edges if {e["source"], e["target"]} <= reached],
    }


def _best(view: View, policies: Sequence[str]) -> str:
    """The evaluated policy of the highest score; without any, the newest."""
    scores, _ = experiment.scores_of(view)
    if scores:
        return str(max(scores, key=lambda row: row["value"])["policy"])
    return policies[-1] if policies else ""


def _budget(view: View) -> dict[str, Any]:
    """The store's own budget: its limits, and what is left of each.

    Read anew each time: it is a file of its own, which may change without a commit.
    """
    budget = Budget.find(view.store)
    lines = budget.status(view.store)
    return {
        "path": None if budget.path is None else str(budget.path),
        "purpose": budget.purpose,
        "limits": [
            dataclasses.asdict(line.limit)
            | {"title": line.limit.title, "spent": line.spent, "left": line.left, "over": line.over}
            for line in lines
        ],
    }


PAGE = Page("books", "/books", "Books", (), load)
