"""`make gpu` in tiny sizes on the CPU: every check runs, passes and is reported."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.checks import CHECKS, Check
from benchmarks.gpu.findings import Recorder
from benchmarks.gpu.processes import Told, check_in_process, preload

ROOT = Path(__file__).parents[2]


def checked(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
def test_every_check_passes_on_a_cpu_and_is_reported(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = checked("--device", "cpu", "--small", "--page", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    told = page.read_text()
    for check in CHECKS:
        assert f"### {check.name}: passed" in told
    assert "torch" in told and "commit" in told and "failed: none" in told
    assert sum(check.limit_s for check in CHECKS) <= 600


def test_without_a_device_one_line_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = checked("--page", str(page))
    assert done.returncode == 2 and not page.exists()
    assert done.stdout.startswith("no CUDA device") and done.stdout.count("\n") == 1


def hangs(_: Any, found: Recorder) -> None:
    found.figure("before", "1 s")
    time.sleep(100)


def breaks(_: Any, found: Recorder) -> None:
    found.figure("before", "1 s")
    raise ValueError("spoilt")


def dies(_: Any, found: Recorder) -> None:
    found.figure("before", "1 s")
    os._exit(9)


def test_a_check_that_hangs_breaks_or_dies_has_failed_and_keeps_its_figures(tmp_path: Path) -> None:
    told = Told("cpu", small=True, model="", scratch=tmp_path)
    says = {"hangs": "ended after its 2 s", "breaks": "ValueError: spoilt", "dies": "ended with 9"}
    checks = [Check(f"{__name__}:{name}", 2) for name in says]
    preload(checks)
    for check, why in zip(checks, says.values(), strict=True):
        found = check_in_process(check, told)
        assert found.figures == [("before", "1 s")]
        assert [why in wrong for wrong in found.wrong] == [True]
