"""benchmarks/GPU.md: one section per run, the newest last; nothing in it is overwritten."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu.findings import Findings

PAGE = Path(__file__).parents[1] / "GPU.md"


def heading(facts: Mapping[str, str], arguments: str) -> str:
    """A run's title: date, device, driver, versions, commit."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    told = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "device")
    return f"\n## {when}: {facts['device']}\n\n{told}, commit {commit()}; `{arguments}`.\n"


def section(name: str, found: Findings, seconds: float) -> str:
    """A check's part: verdict, figures, failures, what was left out."""
    verdict = "FAILED" if found.wrong else "passed"
    lines = [f"\n### {name}: {verdict} ({seconds:.0f} s)\n"]
    lines += [f"- **{wrong}**" for wrong in found.wrong]
    lines += [f"- skipped: {skipped}" for skipped in found.skipped]
    if found.wrong or found.skipped:
        lines.append("")
    if found.figures:
        lines += ["| what | found |", "| --- | --- |"]
        lines += [f"| {what} | {value} |" for what, value in found.figures]
    return "\n".join(lines).rstrip() + "\n"


def append(page: Path, text: str) -> None:
    """Add to the page, at once: a run that is cut off keeps what it had."""
    with page.open("a", encoding="utf-8") as file:
        file.write(text)


def commit() -> str:
    """The commit that runs; of a packed copy, the one it was packed from."""
    packed = PAGE.parents[1] / "COMMIT"
    if packed.exists():
        return packed.read_text().strip()
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=PAGE.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
