"""One page with everything that a reviewer of an experiment needs; needs no server and no network.

The same facts as HTML (one file: styles and drawings inside, no script), as Markdown for a pull
request, and as LaTeX tables.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from s2d_store.datasets.lock_file import list_built
from s2d_store.errors import InputError
from s2d_store.messages import from_stored, text_of
from s2d_store.store import Store
from s2d_store.tables import manifest
from s2d_store.version import __version__
from viewer import claims, seeds, spending
from viewer.environment import FOLDER, environment
from viewer.pages import audits, books, experiment
from viewer.params import Params
from viewer.report_stamp import stamp
from viewer.snapshots import Record, Snapshots, View

OWN = ("report_runs", "report_rollouts", "dataset_list", "eval_pairs", seeds.QUERY)
QUERIES = (*experiment.QUERIES, *OWN)
TEMPLATES = {"html": "report.html", "md": "report.md", "latex": "report.tex"}
LIMIT_S = 600.0
# Of the policies that were evaluated, what each cost is asked for at most so many.
_MOST_COSTED = 40


def opened(store: Store) -> View:
    """The newest snapshot of a store, with what a report asks of it."""
    return Snapshots(store, {"report": QUERIES, spending.PAGE: spending.QUERIES}, LIMIT_S).newest()


def write(
    view: View,
    form: str,
    made_claims: Sequence[claims.Claim] = (),
    *,
    title: str = "",
    seed: int = 0,
    n_rollouts: int = 10,
) -> str:
    """The report of a snapshot.

    Args:
        view: as `opened` returns it.
        form: `html`, `md` or `latex`.
        made_claims: what the experiment claims.
        title: of the page; empty takes the recipes' names.
        seed: of the rollouts that are drawn.
        n_rollouts: how many are.
    """
    facts = collect(view, made_claims, seed, n_rollouts)
    facts["title"] = title or ", ".join(facts["recipes"]) or view.store.root.name
    return render(facts, form)


def save(text: str, path: Path) -> None:
    """Write a report to a file.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {path}",
            error.strerror or str(error),
            "s2d report -o ANOTHER/FILE.html",
        ) from error


def collect(
    view: View, made_claims: Sequence[claims.Claim], seed: int, n_rollouts: int
) -> dict[str, Any]:
    """Everything that the report says, of one snapshot."""
    nothing = Params("/", {})
    page = experiment.load(view, nothing)
    money = books.load(view, nothing)
    checks = audits.load(view, nothing)["audits"]
    runs = view.asked("report_runs")
    pairs = _pairs(view, page)
    return {
        **page,
        "curves": {
            box["name"]: experiment.curves_of(view, box["name"])
            for box in page["boxes"]
            if box["rounds"]
        },
        "pairs": pairs,
        "seed_pairs": seeds.compared(view, page["scores"], _shape(view)) if pairs else [],
        "costs": _costs(view, page["scores"]),
        "books": money,
        "audits": checks,
        "claims": judged(view, page, made_claims, {a["name"]: a["status"] for a in checks}),
        "datasets": _datasets(view),
        "rollouts": _drawn(view, seed, n_rollouts),
        "seed": seed,
        "recipes": sorted({run["recipe"] for run in runs if run["recipe"]}),
        "commands": _commands(runs),
        "versions": _versions(runs),
        "stamp": stamp(view.snap.versions, made_claims),
        "made": {
            "at": datetime.now(UTC).replace(tzinfo=None),
            "version": __version__,
            "store_id": manifest.read(view.store.root)["store_id"],
            "snapshot": dict(view.snap.versions),
        },
    }


def judged(
    view: View,
    page: Mapping[str, Any],
    made_claims: Sequence[claims.Claim],
    audit_status: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Each claim with its figures and whether it holds."""
    evaluated = claims.policies_by_name(page["boxes"])
    run_of = {row["policy"]: row["run_id"] for row in page["scores"]}
    found = []
    for claim in made_claims:
        sides = [run_of.get(evaluated.get(side, "")) for side in claim.sides]
        pair = None
        if all(sides):
            asked = {"eval_runs": ",".join(map(str, sides)), "baseline": str(sides[1])}
            if claim.margin:
                asked["margin"] = str(claim.margin)
            rows = _asked_pairs(view, **asked)
            pair = rows[0] if rows else None
        found.append(claims.verdict(claim, pair, audit_status))
    return found


def _pairs(view: View, page: Mapping[str, Any]) -> list[Record]:
    return _asked_pairs(view) if len(page["scores"]) > 1 else []


def _asked_pairs(view: View, **values: str) -> list[Record]:
    shape = _shape(view)
    return view.asked("eval_pairs", **shape, **values) if shape else []


def _shape(view: View) -> dict[str, str]:
    """Rollouts per prompt and verifier of the evaluations; empty where there are none."""
    found = view.asked("eval_shape")
    return {"n": str(found[0]["n"]), "verifier": found[0]["verifier"]} if found else {}


def _costs(view: View, scores: Sequence[Record]) -> list[Record]:
    """Labels, tokens and FLOPs behind each evaluated policy, from the first label on."""
    costs = []
    for policy in dict.fromkeys(row["policy"] for row in scores[:_MOST_COSTED] if row["policy"]):
        rows = spending.asked(view, "lineage", policy=policy, purpose="train")
        by_level = {row["level"]: row for row in rows}
        labels = {row["side"]: row["labels"] for row in rows if row["level"] == "side"}
        if "all" in by_level:
            costs.append(by_level["all"] | {"policy": policy, "sides": labels})
    return costs


def _datasets(view: View) -> list[Record]:
    there = set(list_built(view.store))
    return [row | {"built": row["name"] in there} for row in view.asked("dataset_list")]


def _drawn(view: View, seed: int, n_rollouts: int) -> list[Record]:
    rows = view.asked("report_rollouts", seed=str(seed), n_rollouts=n_rollouts)
    return [row | {"prompt": _messages(row["messages"])} for row in rows]


def _messages(stored: Sequence[Any] | None) -> list[dict[str, str]]:
    """Role and text of a prompt's messages; none of a prompt that is known by its ids alone."""
    messages = [from_stored(message) for message in stored or ()]
    return [{"role": m["role"], "content": text_of(m)} for m in messages]


def _commands(runs: Sequence[Record]) -> list[Record]:
    """The command lines, each once, in the order in which they were first given."""
    first: dict[str, Record] = {}
    for run in runs:
        if run["argv"]:
            line = shlex.join(run["argv"])
            first.setdefault(line, {"command": line, "stages": []})
            if run["stage"] and run["stage"] not in first[line]["stages"]:
                first[line]["stages"].append(run["stage"])
    return list(first.values())


def _versions(runs: Sequence[Record]) -> dict[str, list[str]]:
    """Versions of each library, newest run last."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for name, version in (json.loads(run["versions"]) if run["versions"] else {}).items():
            if str(version) not in found.setdefault(name, []):
                found[name].append(str(version))
    return dict(sorted(found.items()))


def render(facts: Mapping[str, Any], form: str) -> str:
    """The facts in a form; what is printed is escaped as that form wants it."""
    templates = environment()
    if form != "html":
        templates.autoescape = False
        templates.filters |= {"md": markdown_cell, "tex": latex_text}
        return templates.get_template(TEMPLATES[form]).render(**facts)
    style = (FOLDER / "static" / "style.css").read_text(encoding="utf-8")
    return templates.get_template(TEMPLATES[form]).render(style=Markup(style), **facts)


def markdown_cell(value: object) -> str:
    """Text for a cell of a Markdown table."""
    text = str(value)
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\u2013": "--",
    "\u00b1": r"$\pm$",
}


def latex_text(value: object) -> str:
    """Text as LaTeX prints it."""
    return "".join(_TEX.get(mark, mark) for mark in " ".join(str(value).split()))
