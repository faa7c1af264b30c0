r"""The experiment's prompts: "Which number comes after 531?", with three solved ones before it.

    python examples/gpu/successors.py runs/gpu/prompts

writes labels.jsonl (600 prompts) and test.jsonl (299), every number from 100 to 998 once. Answers
look like `\boxed{532}`. SmolLM2-135M-Instruct solves about 45% at temperature 1 (README.md).
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

N_LABELS = 600
SHOTS = (415, 286, 739)


def record(number: int) -> dict[str, object]:
    """A prompt and its gold answer."""
    messages = []
    for shot in SHOTS:
        messages.append({"role": "user", "content": question(shot)})
        messages.append({"role": "assistant", "content": rf"\boxed{{{shot + 1}}}"})
    messages.append({"role": "user", "content": question(number)})
    return {"messages": messages, "answer": str(number + 1)}


def question(number: int) -> str:
    """What is asked."""
    return f"Which number comes after {number}?"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    numbers = list(range(100, 999))
    random.Random(0).shuffle(numbers)
    parts = {"labels": numbers[:N_LABELS], "test": numbers[N_LABELS:]}
    for name, chosen in parts.items():
        lines = (json.dumps(record(number)) + "\n" for number in chosen)
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
