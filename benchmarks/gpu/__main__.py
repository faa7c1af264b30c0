"""`make gpu`: run the checks, append what they found to benchmarks/GPU.md.

    python -m benchmarks.gpu                          # all, on the CUDA device
    python -m benchmarks.gpu --only resume            # some of them
    python -m benchmarks.gpu --device cpu --small     # the same code in tiny sizes, on a CPU

Exits with 0 where all checks pass, 1 where one fails, 2 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu import page
from benchmarks.gpu.checks import CHECKS, FACTS, Check
from benchmarks.gpu.processes import Told, check_in_process, preload

NO_DEVICE = 2


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--only", nargs="+", default=[], help="checks by name")
    parser.add_argument("--model", default="", help="folder of a model for the checks of speed")
    parser.add_argument("--page", type=Path, default=page.PAGE, help="where results go")
    args = parser.parse_args()
    if args.device == "cpu":  # Accelerate takes a GPU wherever it sees one.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        print("no CUDA device: nothing was checked (--device cpu --small tests the checks)")
        return NO_DEVICE
    wanted, began = _wanted(args.only), time.monotonic()
    preload(wanted)
    with tempfile.TemporaryDirectory(prefix="s2d-gpu-") as scratch:
        told = Told(args.device, args.small, args.model, Path(scratch))
        first = check_in_process(FACTS, told)
        facts = dict(first.figures)
        if first.wrong:
            sys.exit(f"the device cannot be asked: {'; '.join(first.wrong)}")
        page.append(args.page, page.heading(facts, " ".join(["benchmarks.gpu", *sys.argv[1:]])))
        print(", ".join(facts.values()))
        failed = [check.name for check in wanted if not _passes(check, told, args.page)]
    total = f"\nIn all {time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}.\n"
    page.append(args.page, total)
    print(total.strip())
    return 1 if failed else 0


def _wanted(only: list[str]) -> list[Check]:
    unknown = set(only) - {check.name for check in CHECKS}
    if unknown:
        sys.exit(f"no such check: {', '.join(unknown)}; there are {[c.name for c in CHECKS]}")
    return [c for c in CHECKS if not only or c.name in only]


def _passes(check: Check, told: Told, to: Path) -> bool:
    """Run one check and append its section; whether it passed."""
    began = time.monotonic()
    found = check_in_process(check, told)
    section = page.section(check.name, found, time.monotonic() - began)
    page.append(to, section)
    print(section, end="", flush=True)
    return not found.wrong


if __name__ == "__main__":
    sys.exit(main())
