"""Stores with real rollouts, made once a session and copied for each test that needs one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.main import main
from s2d_store import prompts
from s2d_store.engines.base import SamplingParams
from s2d_store.rollouts.generate import generate
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.store import Store

MAX_TOKENS = 8


def one_thread() -> None:
    """Compute on one thread: for matrices this small, waking others takes longer than the work."""
    import torch

    torch.set_num_threads(1)


def make(root: Path, records: list[dict[str, Any]], policy: Path, **settings: Any) -> Store:
    """A store with the records as prompts and, where `n` is given, n rollouts each."""
    one_thread()
    store = Store.init(root)
    numbered = ((f"record {i}", record) for i, record in enumerate(records))
    prompts.add(store, numbered, prompts.PromptOptions(source="sums"))
    if settings.get("n"):
        params = SamplingParams(max_tokens=MAX_TOKENS)
        generate(store, GenerateConfig(policy=str(policy), params=params, **settings))
    return store


def command(*arguments: object) -> None:
    """Run `s2d ARGUMENTS` in this process, quietly, on the store that stands last."""
    *words, store = arguments
    assert isinstance(store, Store)
    before = sys.argv
    sys.argv = ["s2d", *map(str, words), "--store", str(store.root)]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main()
    except SystemExit as stop:
        assert not stop.code, sys.argv
    finally:
        sys.argv = before


def copy(store: Store, root: Path) -> Store:
    """The same store in another folder."""
    shutil.copytree(store.folder, root)
    return Store.open(root)


def read(questions: Path) -> list[dict[str, Any]]:
    """Records of a JSONL file."""
    return [json.loads(line) for line in questions.read_text().splitlines()]


def s2d(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start `s2d ARGUMENTS` in a process and process group of its own, output piped."""
    command = [sys.executable, "-m", "cli.main", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 120) -> tuple[int, str, str]:
    """Exit status, output and errors of a process that must end by itself."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, out, err


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
