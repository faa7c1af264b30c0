"""The dependency audit of `make lint`: pins, agreement of the lists, and what the index says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "requirements_audit", Path(__file__).parents[2] / "requirements" / "audit.py"
)
assert _SPEC is not None and _SPEC.loader is not None
audit = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(audit)


def clean(name: str) -> dict[str, Any]:
    return {"name": name, "version": "1", "vulns": []}


def skipped(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": "Dependency not found on PyPI and could not be audited"}


def vulnerable(name: str, fix: tuple[str, ...] = ("2",)) -> dict[str, Any]:
    advisory = {
        "id": "PYSEC-1",
        "fix_versions": list(fix),
        "aliases": ["CVE-1"],
        "description": "x",
    }
    return {"name": name, "version": "1", "vulns": [advisory]}


Answers = Callable[..., list[list[str]]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let pip-audit print these, one per call; returns the package lists that it is asked about."""

    def give(*outputs: list[dict[str, Any]] | str) -> list[list[str]]:
        left, asked = list(outputs), []

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            asked.append(Path(command[command.index("--requirement") + 1]).read_text().split())
            said = left.pop(0)
            if isinstance(said, str):
                return subprocess.CompletedProcess(command, 1, "", said)
            return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": said}), "")

        monkeypatch.setattr(audit.subprocess, "run", run)
        return asked

    return give


PINS = {"a": "1", "b": "1"}


def test_our_own_lists_are_pinned_and_agree(answers: Answers, capsys: Any) -> None:
    answers("no network")
    assert audit.main() == 0
    said = capsys.readouterr().out
    assert "packages, each pinned to one version" in said
    assert "NOT AUDITED for known vulnerabilities: no network" in said


def test_a_line_that_is_not_pinned_is_named() -> None:
    text = "# via\nA_b.c==1.0\nd[x]==2+cpu ; python_version < '4'\n    # via e\n"
    assert audit.pins("x.txt", text) == ({"a-b-c": "1.0", "d": "2+cpu"}, [])
    for line in ("e>=1", "e", "e @ https://h/e.whl", "-e .", "--extra-index-url x", "e==1.*"):
        assert audit.pins("x.txt", line) == (
            {},
            [f"x.txt: {line!r} is not pinned as name==version"],
        )


def test_lists_that_disagree_or_lack_something_are_named() -> None:
    lists = {"base.txt": {"a": "1", "b": "1"}, "all.txt": {"a": "2"}}
    assert audit.problems(lists, {"base.txt": ["A>=1", "c[x]>=2"]}) == [
        "base.txt: a==1, but all.txt has 2",
        "base.txt: b==1, but all.txt has none",
        "base.txt: lacks 'c[x]>=2' of pyproject.toml",
    ]


def test_an_index_without_the_data_is_asked_once_and_it_is_said(answers: Answers) -> None:
    asked = answers([skipped("a")])
    with pytest.raises(audit.NotAuditedError, match="serves no data on vulnerabilities"):
        audit.audit(PINS)
    assert asked == [["a==1"]]


def test_a_vulnerability_fails_unless_it_is_accepted(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [clean("a")], [skipped("a"), vulnerable("b")]
    asked = answers(*both)
    assert audit.audit(PINS) == (["b==1: PYSEC-1, repaired in 2"], ["a"])
    assert asked == [["a==1"], ["a==1", "b==1"]]
    answers([clean("a")], [clean("a"), vulnerable("b", ())])
    assert audit.audit(PINS) == (["b==1: PYSEC-1, repaired in no release yet"], [])
    for identity in ("PYSEC-1", "CVE-1"):
        monkeypatch.setattr(audit, "ACCEPTED", {identity: "we never call it"})
        answers(*both)
        assert audit.audit(PINS) == ([], ["a"])


@pytest.mark.parametrize(("found", "code"), [([], 0), ([vulnerable("b")], 1)])
def test_the_command_says_what_it_found(
    answers: Answers, capsys: Any, found: list[dict[str, Any]], code: int
) -> None:
    answers([clean("a")], [skipped("a"), *found])
    assert audit.main() == code
    said = capsys.readouterr().out
    assert "NOT AUDITED, the index knows nothing of a" in said
    assert ("PYSEC-1" in said and "make lock" in said) == bool(found)
    assert ("no known vulnerability" in said) == (not found)


def test_an_index_that_does_not_answer(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(audit.subprocess, "run", hang)
    with pytest.raises(audit.NotAuditedError, match="no answer within 20 s"):
        audit.audit(PINS)
