"""The books: what was spent, by stage and run, against the budget, and behind one policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s2d_store.accounting.budget_file import Budget
from viewer.page import Page
from viewer.pages import experiment
from viewer.params import Params
from viewer.snapshots import Record, View

QUERIES = ("lineage", "policy_names")
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
    """What was spent on training, or with `purpose=any` on evaluation, too; of `policy`, in all."""
    purpose = params.choice("purpose", ("train", "any"), "train")
    spent = view.asked("spending", purpose="" if purpose == "any" else purpose)
    stages = [row["stage"] for row in view.asked("stages")]
    by_stage = [row for row in spent if row["scope"] == "stage"]
    by_stage.sort(key=lambda row: stages.index(row["name"]) if row["name"] in stages else -1)
    policies = [row["policy"] for row in view.asked("stage_policies")]
    policy = params.choice("policy", policies, _best(view, policies))
    boxes, edges = experiment.graph(view)
    return {
        "purpose": purpose,
        "metrics": METRICS,
        "total": next(row for row in spent if row["scope"] == "experiment"),
        "by_stage": by_stage,
        "by_role": [row for row in spent if row["scope"] == "role"],
        "by_run": [row for row in spent if row["scope"] == "run"],
        "budget": _budget(view),
        "policies": policies,
        "policy": policy,
        "lineage": _lineage(view, policy, purpose) if policy else [],
        "measure": experiment.scores_of(view)[1],
        **behind(policy, boxes, edges),
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


def _lineage(view: View, policy: str, purpose: str) -> list[Record]:
    return view.asked("lineage", policy=policy, purpose="" if purpose == "any" else purpose)


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


PAGE = Page("books", "/books", "Books", QUERIES, load)
