"""Code with tests: a response's Python program runs against a prompt's tests in a sandbox."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.sandbox import BROKEN_SANDBOX, Limits, can_isolate, run_python

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\n(.*?)\n?```", re.DOTALL)
MAX_TESTS = 100
_LATE = "no end within"


@dataclass(frozen=True)
class Test:
    """One run: text behind the program, or input on stdin and the output that is right."""

    tail: str = ""
    stdin: str = ""
    output: str | None = None


class CodeTests:
    """Correct where the response's program passes every test of its prompt.

    Tests stand in the prompt's task or meta, else in the gold answer as a JSON object, in the forms
    of the field: `test_list` with `test_setup_code` (MBPP: assertions), `test` with `entry_point`
    (HumanEval: a function `check`), `inputs` and `outputs` (APPS: text on stdin and stdout, or with
    `fn_name` arguments and results; also inside `input_output`), `tests` as a list of
    `{"input", "output"}` or as Python text. The program is the last fenced Python block after
    `</think>`, else the last fenced block, else the whole response.

    Each test is a process of its own, see `sandbox`, of 4 seconds at most; `metrics` count tests
    passed, up to the first that ran out of time. A response that ends the process early has not
    passed: a random word is written behind the last assertion. (A program that reads its own file
    finds the word: tests by stdin and stdout have no such hole.)
    """

    name, version = "code-tests", "1"
    needs_answer = False

    limits = Limits()

    def grade(self, item: Item) -> Verdict:
        """See the class."""
        tests = read_tests(item)
        if not tests:
            return Verdict(None, "error", detail="no tests in the prompt's task, meta or answer")
        code = program(item.response)
        if not code.strip():
            return Verdict(0.0, "unparseable")
        passed, first, seconds = 0, "", 0.0
        for test in tests[:MAX_TESTS]:
            why, spent = self._fails(code, test)
            seconds += spent
            passed += not why
            first = first or why
            if why.startswith("sandbox:"):
                return Verdict(None, "error", code, why)
            if why.startswith(_LATE):
                break  # It would be late again, and the item's own deadline comes.
        metrics = {
            "tests": len(tests),
            "passed": passed,
            "isolated": can_isolate(),
        }
        all_pass = passed == min(len(tests), MAX_TESTS)
        return Verdict(
            float(all_pass),
            "correct" if all_pass else "wrong",
            code,
            first,
            metrics,
            {"seconds": round(seconds, 3)},
        )

    def _fails(self, code: str, test: Test) -> tuple[str, float]:
        """Why the program fails a test, or empty, and the seconds it took."""
        word = secrets.token_hex(16)
        source = code if test.output is not None else f"{code}\n\n{test.tail}\nprint({word!r})\n"
        ran = run_python(source, test.stdin, self.limits)
        if ran.code == BROKEN_SANDBOX:
            return f"sandbox: {ran.stderr.strip()}", ran.seconds
        if ran.code is None or ran.code == 124:
            return f"{_LATE} {self.limits.seconds:g} s", ran.seconds
        if ran.code != 0:
            last = (ran.stderr.strip() or "no message").rpartition("\n")[2]
            return f"exit code {ran.code}: {last}", ran.seconds
        if test.output is None:
            ended = ran.stdout.rstrip().endswith(word)
            return "" if ended else "it ended before its tests did", ran.seconds
        if _lines(ran.stdout) == _lines(test.output):
            return "", ran.seconds
        shown, wanted = ran.stdout[:200], test.output[:200]
        return f"output {shown!r} instead of {wanted!r}", ran.seconds


def program(response: str) -> str:
    """The program in a response."""
    text = response.rpartition("</think>")[2]
    fences = _FENCE.findall(text)
    python = [body for language, body in fences if language.lower() in ("python", "py", "python3")]
    if python or fences:
        return str((python or [body for _, body in fences])[-1])
    return text


def read_tests(item: Item) -> list[Test]:
    """The tests of an item, in any of the forms; see `CodeTests`."""
    found = _tests_of(item.fields())
    if found or item.answer is None:
        return found
    try:
        stated = json.loads(item.answer)
    except (ValueError, RecursionError):
        return []
    return _tests_of(stated if isinstance(stated, dict) else {"tests": stated})


def _tests_of(fields: Mapping[str, Any]) -> list[Test]:
    if "input_output" in fields:
        fields = {**fields, **_decoded(fields["input_output"])}
    if isinstance(fields.get("test_list"), list):
        setup = str(fields.get("test_setup_code") or "")
        setup = "\n".join([setup, *map(str, fields.get("test_imports") or [])])
        return [Test(f"{setup}\n{assertion}") for assertion in fields["test_list"]]
    if isinstance(fields.get("test"), str) and fields.get("entry_point"):
        return [Test(f"{fields['test']}\ncheck({fields['entry_point']})")]
    inputs, outputs = fields.get("inputs"), fields.get("outputs")
    if isinstance(inputs, list) and isinstance(outputs, list) and len(inputs) == len(outputs):
        name = fields.get("fn_name")
        return [
            _call(str(name), given, wanted) if name else Test("", _text(given), _text(wanted))
            for given, wanted in zip(inputs, outputs, strict=True)
        ]
    tests = fields.get("tests")
    if isinstance(tests, str):
        return [Test(tests)]
    if isinstance(tests, list):
        return [
            Test("", _text(one.get("input", "")), _text(one.get("output", "")))
            if isinstance(one, Mapping)
            else Test(str(one))
            for one in tests
        ]
    return []


def _call(name: str, arguments: Any, wanted: Any) -> Test:
    """A call of a function, or of a method of class Solution, whose result must be equal."""
    given = arguments if isinstance(arguments, list) else [arguments]
    # APPS wraps some results in a list of one.
    expected = [wanted, *(wanted if isinstance(wanted, list) and len(wanted) == 1 else [])]
    tail = f"""
import json as _json
_f = globals().get({name!r}) or getattr(Solution(), {name!r})
_found = _f(*_json.loads({json.dumps(given)!r}))
_found = _json.loads(_json.dumps(_found))
assert _found in _json.loads({json.dumps(expected)!r}), repr(_found)[:200]
"""
    return Test(tail)


def _decoded(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n".join(map(str, value))
    return str(value)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
