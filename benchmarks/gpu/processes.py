"""A check in a process of its own, forked from one that imported torch, no device started."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu import findings
from benchmarks.gpu.checks import Check
from benchmarks.gpu.findings import Findings, Recorder
from benchmarks.gpu.setting import Setting


@dataclass(frozen=True)
class Told:
    """What all checks are told: see `benchmarks.gpu.setting.Setting`; `scratch` is for all."""

    device: str
    small: bool
    model: str
    scratch: Path


def preload(checks: Sequence[Check]) -> None:
    """Import what checks need once, in the process that theirs are forked from."""
    # pyarrow imports pandas where it is installed.
    modules = ["pandas", *dict.fromkeys(check.module for check in checks)]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)


def check_in_process(check: Check, told: Told) -> Findings:
    """What a check finds; ended at its limit, or broken, it has failed."""
    context = multiprocessing.get_context("forkserver")
    results = told.scratch / f"{check.name}.jsonl"
    process = context.Process(target=_work, args=(check, told, results))
    process.start()
    process.join(check.limit_s)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    found = findings.read(results)
    if late:
        found.wrong.append(f"it was ended after its {check.limit_s:.0f} s")
    elif process.exitcode:
        found.wrong.append(f"its process ended with {process.exitcode}")
    return found


def _work(check: Check, told: Told, results: Path) -> None:
    """A check's process: whatever it raises is a finding."""
    folder = told.scratch / check.name
    folder.mkdir()
    setting, found = Setting(told.device, told.small, folder, told.model), Recorder(results)
    try:
        check.load()(setting, found)
    except Exception as error:  # the boundary: a check that breaks is reported, others go on
        traceback.print_exc()
        found.require(False, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")


def facts(setting: Setting, found: Recorder) -> None:
    """Device, driver and versions, as figures."""
    import torch

    if setting.device == "cuda":
        found.figure("device", torch.cuda.get_device_name())
        version = Path("/proc/driver/nvidia/version")
        driver = (
            version.read_text().split("Kernel Module", 1)[-1].split() if version.exists() else []
        )
        found.figure("driver", driver[0] if driver else "unknown")
        found.figure("CUDA", str(torch.version.cuda))
    else:
        found.figure("device", f"CPU, {torch.get_num_threads()} threads")
    found.figure("torch", torch.__version__)
    for package in ("transformers", "accelerate"):
        found.figure(package, importlib.metadata.version(package))
