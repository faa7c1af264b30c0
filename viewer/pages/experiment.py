"""The whole experiment: its stages as a graph, what each can do and cost, and a stage's curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from viewer import spending
from viewer.page import Page
from viewer.params import Params
from viewer.snapshots import Record, View

QUERIES = (
    "stages",
    "stage_policies",
    "eval_shape",
    "eval_scores",
    "stage_updates",
    "stage_rollouts",
    "store_counts",
)
# How the relations of policies are called in a recipe.
RELATIONS = {"parent": "start", "sampled": "rollouts", "scored": "teacher"}
CURVES = {
    "loss": "loss",
    "kl": "KL",
    "entropy": "entropy",
    "pass_rate": "pass rate of the rows",
    "mean_tokens": "mean length",
    "cut_off": "share cut off",
    "clip_fraction": "clip fraction",
    "grad_norm": "gradient norm",
    "topk_mass": "top-k mass",
}
# A policy that was there before any stage.
_GIVEN = {"recipe": None, "kind": "policy", "rounds": 0, "running": 0, "left_seconds": None}


def load(view: View, params: Params) -> dict[str, Any]:
    """Stages with their sources, figures and costs; with `stage`, its curves.

    A reader of a large store sees the stages at once: `pending` is true until their figures, which
    take seconds there, are known. Whoever asks for JSON waits for them.
    """
    known = view.soon(("experiment",), lambda: _figures(view), patient=params.patient)
    scores, measure = scores_of(view) if known else ([], "")
    boxes, edges = graph(view) if known else (_boxes(view, {}, {}), [])
    chosen = params.choice("stage", [box["name"] for box in boxes if box["rounds"]])
    return {
        "pending": not known,
        "counts": view.asked("store_counts")[0],
        "total": _total(view) if known else None,
        "boxes": boxes,
        "edges": edges,
        "measure": measure,
        "scores": scores,
        "stage": chosen,
        "curves": curves_of(view, chosen) if chosen and known else None,
    }


def _figures(view: View) -> bool:
    """Ask for all that takes its time, so that it is kept."""
    graph(view)
    return True


def graph(view: View) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The boxes of the experiment, and the edges between them."""
    scores = {row["policy"]: row for row in scores_of(view)[0]}
    spent = {row["name"]: row for row in _spent(view) if row["scope"] == "stage"}
    boxes = _boxes(view, scores, spent)
    names = {box["name"] for box in boxes}
    return boxes, [e for e in _edges(view) if {e["source"], e["target"]} <= names]


def _total(view: View) -> Record:
    return next(row for row in _spent(view) if row["scope"] == "experiment")


def _spent(view: View) -> list[Record]:
    return spending.asked(view, "spending", purpose="train")


def scores_of(view: View) -> tuple[list[Record], str]:
    """avg@n of each evaluated policy with its interval, and the measure's name."""
    shape = view.asked("eval_shape")
    if not shape:
        return [], ""
    n, measure = shape[0]["n"], f"avg@{shape[0]['n']}"
    rows = view.asked("eval_scores", n=str(n), verifier=shape[0]["verifier"])
    place = {row["policy"]: i for i, row in enumerate(view.asked("stage_policies"))}
    chosen = [row for row in rows if row["measure"] == measure]
    return sorted(chosen, key=lambda row: place.get(row["policy"], 0)), measure


def _boxes(
    view: View, scores: Mapping[str, Record], spent: Mapping[str, Record]
) -> list[dict[str, Any]]:
    """The stages, and before them the policies that no run made; oldest first."""
    policies, stages = view.asked("stage_policies"), view.asked("stages")
    named = {row["stage"] for row in stages}
    boxes = [
        _box(row["policy"], [row["policy"]], scores)
        | _GIVEN
        | {"n_parameters": row["n_parameters"]}
        for row in policies
        if row["stage"] is None and row["policy"] not in named
    ]
    for row in stages:
        made = [p["policy"] for p in policies if p["stage"] == row["stage"]]
        cost = spent.get(row["stage"], {})
        box = _box(row["stage"], made, scores) | row | {"name": row["stage"]}
        for name in ("labels", "updates", "flops"):
            box[name] = cost.get(name, 0)
        box["tokens"] = sum(
            cost.get(f"{kind}_tokens", 0) for kind in ("generated", "scored", "trained")
        )
        boxes.append(box | _progress(box))
    return boxes


def _box(name: str, policies: Sequence[str], scores: Mapping[str, Record]) -> dict[str, Any]:
    """A box with the newest of its policies, and the score of the newest that was evaluated."""
    evaluated = [scores[policy] for policy in policies if policy in scores]
    score = evaluated[-1] if evaluated else None
    return {
        "name": name,
        "policies": list(policies),
        "score": {k: score[k] for k in ("policy", "value", "low", "high")} if score else None,
    }


def _progress(box: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds so far of a stage that runs, and how many it still needs where that is known."""
    if not box["running"]:
        return {"left_seconds": None}
    done, planned = box["updates"], box["planned_updates"]
    now = datetime.now(UTC).replace(tzinfo=None)
    seconds = (now - box["started_at"]).total_seconds()
    left = seconds * (planned - done) / done if planned and done and planned > done else None
    return {"seconds": seconds, "left_seconds": left}


def _edges(view: View) -> list[dict[str, str]]:
    """One edge per pair: `start` where one began from the other, else how it learned from it."""
    relations: dict[tuple[str, str], list[str]] = {}
    for row in spending.asked(view, "stage_edges"):
        relations.setdefault((row["source"], row["stage"]), []).append(RELATIONS[row["relation"]])
    return [
        {
            "source": source,
            "target": target,
            "relation": "start" if "start" in found else ", ".join(sorted(found)),
        }
        for (source, target), found in relations.items()
    ]


def curves_of(view: View, stage: str) -> dict[str, Any]:
    """Figures of a stage by step, a list each, and the steps at which its rounds begin."""
    updates = view.asked("stage_updates", of_stage=stage)
    rollouts = {
        (row["run_id"], row["update"]): row for row in view.asked("stage_rollouts", of_stage=stage)
    }
    rows = [row | rollouts.get((row["run_id"], row["update"]), {}) for row in updates]
    begins = [row["step"] for before, row in pairwise(rows) if before["run_id"] != row["run_id"]]
    figures = {name: [row.get(name) for row in rows] for name in CURVES}
    return {
        "steps": [row["step"] for row in rows],
        "rounds_begin": begins,
        "figures": {k: v for k, v in figures.items() if any(x is not None for x in v)},
        "titles": CURVES,
    }


PAGE = Page("experiment", "/", "Experiment", QUERIES, load)
