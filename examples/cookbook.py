"""Write docs/cookbook.md: what researchers ask of a store, and what the quickstart's store answers.

    make quickstart && python examples/cookbook.py

Nothing is added to the store: a second verifier grades a copy of it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "cookbook.md"
HEAD = """<!-- Written by examples/cookbook.py from the store of the quickstart. -->

# Cookbook

Thirteen questions that researchers ask, each one command, with what the store of `make quickstart`
answers (`export S2D_STORE=runs/quickstart/store`; long answers are cut, `...` says where). Every
named query is a file of [`queries/analysis`](../queries/analysis) to copy and change, and takes
`--format csv`, `json`, `md` or `latex`. From Python: `store.query("pass_rate").pl()`.
`s2d query --list NAME` shows a query's parameters; [queries.md](queries.md) explains every column.
"""


@dataclass(frozen=True)
class Question:
    """One question: what is asked, how, what to know, and how many lines of the answer to show."""

    title: str
    command: str
    about: str
    lines: int = 12


QUESTIONS = (
    Question(
        "Pass rate by policy and difficulty",
        "s2d query pass_rate_by_difficulty -p reference=teacher",
        "How hard a prompt is, is how often a reference policy fails on it. `pass_rate` has plain "
        "pass rates, `s2d eval --report` those with intervals and paired differences.",
        18,
    ),
    Question(
        "Length against reward",
        "s2d query length_by_reward -p purpose=eval",
        "",
        20,
    ),
    Question(
        "The student's top-1 against the teacher's",
        "s2d query top1_agreement",
        "Over the stored top-k of both, at every token that the student sampled.",
    ),
    Question(
        "KL of one rollout, token by token",
        "s2d query token_kl -p rollout={rollout}",
        "`s2d show {rollout}` prints its text with these tokens shaded, and `s2d show {rollout} "
        "--token 3` both top-k of one token side by side. `kl_by_position` averages over rollouts.",
        20,
    ),
    Question(
        "What flipped in Stage 3",
        "s2d query flips -p before=quickstart.bridge.r007 -p after=quickstart.stage3.r003 "
        "--max-rows 8",
        "Rows name one rollout of either side, for `s2d show`.",
    ),
    Question(
        "Entropy by position",
        "s2d query entropy_by_position -p policy=quickstart.warmup",
        "",
    ),
    Question(
        "Tail mass: what the stored top-k leaves out",
        "s2d query tail_mass",
        "",
    ),
    Question(
        "Labels by stage",
        "s2d query labels_by_stage",
        "`spent_by_stage` has tokens and FLOPs beside, `s2d budget --lineage POLICY` all that one "
        "policy cost with its teachers.",
    ),
    Question(
        "Tokens for a right answer",
        "s2d query tokens_per_correct -p purpose=eval",
        "",
    ),
    Question(
        "Degenerate repeats",
        "s2d query repeats --max-rows 6",
        "Loops first, then what is cut off or empty. `s2d audit degenerate_rollouts` holds shares "
        "against a limit.",
        9,
    ),
    Question(
        "Two verifiers",
        "s2d query verifiers_agree",
        "After a second one graded: `s2d verify --verifier normalised-match`. Averages over "
        "`graded_rollouts` stay as they were: it has one row per rollout.",
    ),
    Question(
        "Five rollouts to read",
        "s2d sample -n 5 --where \"purpose = 'eval' AND outcome = 'wrong'\"",
        "`--where` takes any condition over `graded_rollouts`; `--draw 1` draws others.",
        32,
    ),
    Question(
        "Training curves",
        "s2d query training -p stage=stage3 --max-rows 8",
        "`step` goes on over the rounds of a stage. `--output curve.csv` takes it to a plot.",
    ),
)
SECOND = "s2d verify --quiet --verifier normalised-match --where \"purpose = 'eval'\""
FAR = (
    "SELECT rollout_id FROM tokens WHERE scorer IS NOT NULL "
    "GROUP BY rollout_id ORDER BY max(abs(kl)) DESC, rollout_id LIMIT 1"
)


def page(store: Path) -> str:
    """The page, from a store of the quickstart."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "store"
        shutil.copytree(store, copy)
        _run(SECOND, copy)
        rollout = _run(f"s2d query --format csv {shlex.quote(FAR)}", copy).splitlines()[-1]
        parts = [HEAD]
        for number, question in enumerate(QUESTIONS, 1):
            command = question.command.replace("{rollout}", rollout)
            shown = _cut(_run(command, copy), question.lines)
            body = "\n".join(f"    {line}".rstrip() for line in [f"$ {command}", *shown])
            about = question.about.replace("{rollout}", rollout)
            parts.append(f"## {number}. {question.title}\n")
            parts += [about + "\n"] if about else []
            parts.append(body + "\n")
    return "\n".join(parts)


def _run(command: str, store: Path) -> str:
    environment = os.environ | {"S2D_STORE": str(store)}
    done = subprocess.run(
        shlex.split(command), env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.rstrip()


def _cut(text: str, most: int) -> list[str]:
    lines = text.splitlines()
    return lines if len(lines) <= most else [*lines[:most], "..."]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("runs/quickstart/store"))
    args = parser.parse_args()
    PAGE.write_text(page(args.store))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
