"""Verdicts beside bare math-verify: how often each is right, and how many wrong answers it takes.

    python -m benchmarks.verdicts --cases ../shared/cases --gsm8k ../shared/data/gsm8k_test.jsonl

Four sets of answers whose right verdict is known: cases and controls collected elsewhere (where
`--cases` is there), GSM8K's golds and their successors in 53 forms (where `--gsm8k` is there, else
made numbers), and the project's own MATH-like golds in tests/verdict_cases.jsonl.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.verdict_forms import FORMS
from s2d_store.verifiers.math import MathVerifier

OWN = Path(__file__).parents[1] / "tests" / "verifiers" / "verdict_cases.jsonl"


@dataclass(frozen=True)
class Case:
    """A gold answer, a response, and whether it is to be graded correct."""

    gold: str
    response: str
    right: bool
    debatable: bool = False


@dataclass
class Score:
    """Verdicts of one grader on one set.

    Attributes:
        cases: answers graded.
        agreed: verdicts that are right.
        wrong_taken: wrong answers graded correct.
        right_refused: right answers not graded correct.
        debatable_missed: of all misses, those marked as a matter of taste.
        seconds: CPU time.
    """

    cases: int = 0
    agreed: int = 0
    wrong_taken: int = 0
    right_refused: int = 0
    debatable_missed: int = 0
    seconds: float = 0.0


def collected(path: Path) -> Iterator[Case]:
    """Cases of a JSONL file with `gold`, `response`, `right` and at times `debatable`."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        yield Case(row["gold"], row["response"], row["right"], bool(row.get("debatable")))


def own_cases() -> Iterator[Case]:
    """The project's own golds, each with right and wrong answers, boxed and in prose."""
    for line in OWN.read_text().splitlines():
        row = json.loads(line)
        for name, right in (("right", True), ("wrong", False)):
            yield from (Case(row["gold"], text, right) for text in row.get(name, ()))
        for name, right in (("boxed", True), ("boxed_wrong", False)):
            for text in row.get(name, ()):
                yield Case(row["gold"], rf"So the final answer is $\boxed{{{text}}}$.", right)


def whole_numbers(gsm8k: Path | None, count: int) -> list[str]:
    """Gold answers of GSM8K, or made ones where its file is not given."""
    if gsm8k is None:
        random = Random(0)
        return [f"{random.randint(2, 10 ** random.randint(1, 6)):,}" for _ in range(count)]
    rows = [json.loads(line)["answer"] for line in gsm8k.read_text().splitlines()]
    return [answer.rpartition("####")[2].strip() for answer in rows[:count]]


def in_forms(golds: Iterable[str]) -> Iterator[Case]:
    """Each gold in every form, and its successor, which is wrong."""
    for gold in golds:
        after = str(int(gold.replace(",", "")) + 1)
        for form in FORMS:
            yield Case(gold, form.replace("N", gold), True)
            yield Case(gold, form.replace("N", after), False)


def bare_math_verify(response: str, gold: str) -> bool:
    """math-verify as its documentation calls it."""
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(response)))


def score(cases: list[Case], graded: Callable[[str, str], bool], misses: list[Case]) -> Score:
    """Grade every case; those that come out otherwise than they should are added to `misses`."""
    total = Score(cases=len(cases))
    began = time.process_time()
    for case in cases:
        correct = graded(case.response, case.gold)
        if correct == case.right:
            total.agreed += 1
            continue
        misses.append(case)
        total.wrong_taken += correct
        total.right_refused += not correct
        total.debatable_missed += case.debatable
    total.seconds = time.process_time() - began
    return total


def main() -> None:
    """Grade and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--cases", type=Path, help="folder of verdicts.jsonl, verdict_controls.jsonl"
    )
    parser.add_argument("--gsm8k", type=Path, help="GSM8K's JSONL; default: made numbers")
    parser.add_argument("--golds", type=int, default=40, help="whole numbers in 53 forms")
    parser.add_argument("--misses", action="store_true", help="print ours")
    parser.add_argument("--only-ours", action="store_true", help="leave bare math-verify out")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)

    sets: dict[str, list[Case]] = {}
    if args.cases:
        for name in ("verdicts", "verdict_controls"):
            sets[name] = list(collected(args.cases / f"{name}.jsonl"))
    sets["whole numbers in 53 forms"] = list(in_forms(whole_numbers(args.gsm8k, args.golds)))
    sets["own golds, MATH-like"] = list(own_cases())

    verifier = MathVerifier()
    graders: dict[str, Callable[[str, str], bool]] = {
        f"{verifier.name} {verifier.version}": lambda response, gold: (
            verifier.verify(response, gold).outcome == "correct"
        )
    }
    if not args.only_ours:
        graders["math-verify as it comes"] = bare_math_verify
    report: dict[str, dict[str, object]] = {}
    for name, cases in sets.items():
        print(f"{name}: {len(cases)} answers")
        report[name] = {}
        for at, (grader, graded) in enumerate(graders.items()):
            misses: list[Case] = []
            found = score(cases, graded, misses)
            report[name][grader] = asdict(found)
            print(
                f"  {grader:28} right {found.agreed:6} = {found.agreed / found.cases:.4f}, "
                f"wrong taken {found.wrong_taken}, right refused {found.right_refused}, "
                f"of these debatable {found.debatable_missed}, "
                f"{1000 * found.seconds / found.cases:.2f} ms each"
            )
            for case in misses if args.misses and at == 0 else ():
                print(f"    gold {case.gold!r} response {case.response!r} right {case.right}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
