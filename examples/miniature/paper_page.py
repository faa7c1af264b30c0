"""The tables of docs/paper.md: routes and claims, the paper's figures beside the miniature's.

They stand in the page between `<!-- table: NAME -->` and `<!-- end -->`. The paper's figures are
avg@16 on MATH-500 in percent (arXiv 2605.12483, Tables 3, 4 and 6, 8B teacher).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from results import TaskResults, Verdict, verdicts
from tables import percent, table


@dataclass(frozen=True)
class Route:
    """One row of the routes' table.

    Attributes:
        name, labels: the route, and where its labels go.
        stages: of both recipes, with the kind of their datasets' queries where it is new.
        proof: audits and queries that prove what is matched.
        audits: those that the miniature runs, by their name in its files.
        paper: the paper's figures, by arm.
    """

    name: str
    labels: str
    stages: str
    proof: str
    audits: tuple[str, ...]
    paper: dict[str, str]


ROUTES = (
    Route(
        "R1 cold GRPO",
        "student, all",
        "`cold-grpo` (`grpo`)",
        "query `lineage`: all labels downstream",
        (),
        {"cold-grpo": "75.9 ± 0.9"},
    ),
    Route(
        "R2 teacher-sample SFT",
        "teacher RL on 1H; student on 2H",
        "`rl-teacher`, `sample-sft` (`sft`), `stage3-sample-sft`",
        "audit `label_splits`",
        ("label_splits R2",),
        {"sample-sft": "76.0", "stage3-sample-sft": "77.3"},
    ),
    Route(
        "R3-full",
        "teacher RL on 1H + 2H",
        "`rl-teacher-full`, `warmup-full` (`warmup`), `bridge-full` (`opd`)",
        "query `lineage`: all labels upstream",
        (),
        {"bridge-full": "79.3"},
    ),
    Route(
        "R5-half",
        "teacher RL on 1H; student on 2H",
        "`rl-teacher`, `warmup`, `bridge`, `stage3` (`grpo`)",
        "audit `label_splits`",
        ("label_splits R5",),
        {"bridge": "75.4 ± 0.8", "stage3": "78.5 ± 0.9"},
    ),
    Route(
        "R6 SFT'd teacher",
        "teacher SFT on 1H; student on 2H",
        "`sft-teacher` (`sft`, its own verified samples), `warmup-sft`, `bridge-sft`, `stage3-sft`",
        "audit `label_splits`",
        ("label_splits R6",),
        {"bridge-sft": "74.3 ± 1.0", "stage3-sft": "77.2 ± 1.0"},
    ),
    Route(
        "**R7 replay**",
        "teacher RL on 1H, visited again",
        "`replay` (`replay`) beside `stage3`",
        "audit `replay_matched`",
        ("replay_matched replay",),
        {"replay": "75.7 ± 0.7"},
    ),
    Route(
        "R7 of R6",
        "teacher SFT on 1H, visited again",
        "`replay-sft` beside `stage3-sft`",
        "audit `replay_matched`",
        ("replay_matched replay-sft",),
        {"replay-sft": "74.0 ± 0.8"},
    ),
    Route(
        "R8 OPD only",
        "teacher RL on 1H; student on 2H",
        "`opd-only` (`opd`), `stage3-opd-only`",
        "audit `label_splits`",
        ("label_splits R8",),
        {"opd-only": "77.6", "stage3-opd-only": "77.8"},
    ),
    Route(
        "raw teacher",
        "none",
        "`warmup-raw`, `bridge-raw`",
        "query `lineage`: 0 labels",
        (),
        {"bridge-raw": "71.5"},
    ),
    Route(
        "same-size teacher",
        "teacher RL on 1H + 2H",
        "copies `.student` of R3-full's; in the miniature `warmup-same-size`, `bridge-same-size`",
        "query `lineage`",
        (),
        {"bridge-same-size": "76.5"},
    ),
)
# Claim of the paper -> its figures, and the miniature's comparisons by their names in routes.toml.
CLAIMS = (
    (
        "1. RL'd-teacher bridge > cold GRPO > raw-teacher bridge",
        "79.3 > 75.9 > 71.5",
        ("1a", "1b", "1c"),
    ),
    ("1. SFT'd teachers lie between", "79.3 > 76.9 > 71.5", ("1d", "1e")),
    ("2. bridge > OPD only > teacher-sample SFT", "79.3 > 77.6 > 76.0", ("2a", "2b", "2c", "2d")),
    ("2. the same after Stage 3", "78.5 > 77.8 > 77.3", ("2e", "2f")),
    ("3. Stage 3 > bridge, > cold GRPO", "78.5 > 75.4, 75.9", ("3a", "3b", "3b-compute")),
    ("3. Stage 3 > replay; replay - bridge at most 0.3", "78.5 > 75.7; 0.3", ("3c", "3d", "3e")),
    ("4. labels upstream against half kept for Stage 3", "79.3 against 78.5", ("4",)),
    ("5. same-size RL'd teacher's bridge > cold GRPO", "76.5 > 75.9", ("5a", "5b")),
)
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_figures(page: str, found: Sequence[TaskResults]) -> str:
    """The page with its tables made anew."""
    with_seeds = [task for task in found if task.seeds]
    made = {"routes": _routes(with_seeds), "claims": _claims(with_seeds)}
    return _BLOCK.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n\n{match[3]}", page)


def _routes(found: Sequence[TaskResults]) -> str:
    head = ["route", "labels go to", "stages (query)", "what proves it", "paper", *_heads(found)]
    body = []
    for route in ROUTES:
        figures = [
            "; ".join(percent(task, arm) for arm in route.paper)
            + "".join(f"; audit {task.audit(name)}" for name in route.audits)
            for task in found
        ]
        paper = "; ".join(route.paper.values())
        body.append([route.name, route.labels, route.stages, route.proof, paper, *figures])
    return table(head, body)


def _claims(found: Sequence[TaskResults]) -> str:
    said = [{verdict.name: verdict for verdict in verdicts(task)} for task in found]
    body = [
        [claim, paper, *("; ".join(_short(of[name]) for name in names) for of in said)]
        for claim, paper, names in CLAIMS
    ]
    return table(["claim", "paper", *_heads(found)], body)


def _heads(found: Sequence[TaskResults]) -> list[str]:
    return [task.title for task in found]


def _short(verdict: Verdict) -> str:
    low, high = verdict.test.low, verdict.test.high
    between = "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{verdict.name}: {100 * verdict.difference:+.1f}{between}, {verdict.holds}"
