"""Run a program that nobody trusts: in a process of its own that can do little and ends in time.

Where Linux lets users make namespaces (`unshare`), it has no network, sees every file system
read-only but for a scratch folder, and lives in a process namespace of its own, which ends whole.
Elsewhere only the limits hold and what it started is killed; `Ran.isolated` says which it was. Its
environment holds none of this process's variables. What it may read, it can read.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from s2d_store.verifiers.process_tree import descendants

INIT = Path(__file__).with_name("sandbox_init.py")
MAX_OUTPUT_BYTES = 1 << 20
BROKEN_SANDBOX = 125
_UNSHARE = ("--user", "--map-root-user", "--net", "--mount", "--pid", "--ipc", "--fork")


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
        seconds: wall-clock time, processor time as well.
        memory_bytes: address space of each process.
        file_bytes: size of each file, and in a namespace of the scratch folder.
        processes: processes and threads, where the system counts them.
    """

    seconds: float = 4.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    processes: int = 64


@dataclass(frozen=True)
class Ran:
    """How a run ended.

    Attributes:
        code: exit status, 128 more than the signal that ended it; None: it ran out of time.
        stdout: what it wrote, at most 1 MiB.
        stderr: the end of what it wrote there, at most 4 KiB.
        seconds: how long it took.
        isolated: whether namespaces kept network and files from it.
    """

    code: int | None
    stdout: str
    stderr: str
    seconds: float
    isolated: bool


@cache
def can_isolate() -> bool:
    """Whether this system lets a user make the namespaces; tried once."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory(prefix="s2d-sandbox-") as folder:
        ran = _run([shutil.which("true") or "/bin/true"], "", Limits(), folder, isolated=True)
    return ran.code == 0


def run_python(program: str, stdin: str = "", limits: Limits | None = None) -> Ran:
    """Run Python text as a program, in this interpreter's environment.

    Raises:
        OSError: the system starts no process.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="s2d-sandbox-") as folder:
        path = Path(folder) / "program.py"
        path.write_text(program, encoding="utf-8", errors="replace")
        return _run([sys.executable, "-I", "-B", str(path)], stdin, limits, folder, can_isolate())


def _run(argv: Sequence[str], stdin: str, limits: Limits, folder: str, isolated: bool) -> Ran:
    scratch = Path(folder) / "scratch"
    scratch.mkdir(mode=0o700)
    start = {
        "isolated": isolated,
        "seconds": limits.seconds + 1,
        "scratch": str(scratch),
        "scratch_bytes": limits.file_bytes,
        "limits": {
            "RLIMIT_AS": limits.memory_bytes,
            "RLIMIT_CPU": math.ceil(limits.seconds) + 1,
            "RLIMIT_FSIZE": limits.file_bytes,
            "RLIMIT_NPROC": limits.processes,
            "RLIMIT_NOFILE": 256,
            "RLIMIT_CORE": 0,
        },
    }
    if not isolated:
        # Without a namespace it would count all of this user's processes.
        del start["limits"]["RLIMIT_NPROC"]  # type: ignore[attr-defined]
    outside = [shutil.which("unshare") or "unshare", *_UNSHARE, "--kill-child", "--"]
    inside = [sys.executable, "-I", "-S", str(INIT), json.dumps(start), *argv]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
    }
    before = descendants(os.getpid())
    paths = {name: Path(folder) / name for name in ("stdin", "stdout", "stderr")}
    paths["stdin"].write_text(stdin, encoding="utf-8", errors="replace")
    began = time.monotonic()
    # Files and not pipes: the limit on files bounds what it writes, whatever that is.
    with (
        paths["stdin"].open("rb") as given,
        paths["stdout"].open("wb") as out,
        paths["stderr"].open("wb") as err,
    ):
        process = subprocess.Popen(
            [*outside, *inside] if isolated else inside,
            stdin=given,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            seconds = time.monotonic() - began
            _end(process, before)
    stdout, stderr = (paths[name].read_bytes() for name in ("stdout", "stderr"))
    return Ran(
        code,
        stdout[:MAX_OUTPUT_BYTES].decode("utf-8", "replace"),
        stderr[-4096:].decode("utf-8", "replace"),
        seconds,
        isolated,
    )


def _end(process: subprocess.Popen[bytes], before: set[int]) -> None:
    """Kill the run's process group and whatever it left behind below this process."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for _ in range(20):
        left = descendants(os.getpid()) - before
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:  # Orphans that this process adopted; others are not its to wait for.
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.005)
