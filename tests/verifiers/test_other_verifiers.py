"""Verifiers beyond mathematics: texts, choices, JSON, instructions, and code in its sandbox."""

from __future__ import annotations

import os
from typing import Any

import pytest

from s2d_store.verifiers.base import Item, Verdict
from s2d_store.verifiers.process_tree import descendants
from s2d_store.verifiers.registry import load_verifier
from s2d_store.verifiers.sandbox import Limits, can_isolate, run_python


def verdict(name: str, response: str, answer: str | None = None, **meta: Any) -> Verdict:
    return load_verifier(name).grade(Item("r", response, answer, meta=meta))


@pytest.mark.parametrize(
    ("name", "gold", "response", "outcome"),
    [
        ("exact-match", "Paris", "<think>Rome?</think>\nParis ", "correct"),
        ("exact-match", "Paris", "Well. <answer>Paris</answer> it is", "correct"),
        ("exact-match", "Paris", "paris", "wrong"),
        ("normalised-match", "The Beatles", "beatles!", "correct"),
        ("normalised-match", "Zoë", "zoë", "correct"),
        ("normalised-match", "Beatles", "The Rolling Stones", "wrong"),
        ("normalised-match", "the", "the", "error"),
    ],
)
def test_texts(name: str, gold: str, response: str, outcome: str) -> None:
    assert verdict(name, response, gold).outcome == outcome


@pytest.mark.parametrize(
    ("gold", "response", "outcome"),
    [
        ("C", "C", "correct"),
        ("C", "(c)", "correct"),
        ("C", r"so \boxed{\text{C}}", "correct"),
        ("C", "<think>The answer is A.</think>The answer is (C).", "correct"),
        ("C", "**Answer: C**", "correct"),
        ("C", "A is wrong, B is wrong.\nOption C is right", "correct"),
        ("C", "C) the ribosome", "correct"),
        ("C", "the ribosome", "correct"),
        ("2", "C", "correct"),
        ("the ribosome", "C", "correct"),
        ("C", "The answer is B.", "wrong"),
        ("A", "The answer is a cell", "unparseable"),
        ("A", "I think so. A cell divides.", "unparseable"),
        ("not a choice", "C", "error"),
    ],
)
def test_choices(gold: str, response: str, outcome: str) -> None:
    choices = ["a cell wall", "a virus", "the ribosome", "nothing"]
    assert verdict("choice", response, gold, choices=choices).outcome == outcome


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        ('Here:\n```json\n{"n": 1}\n```', "correct"),
        ('{"n": 1}', "correct"),
        ('{"n": "1"}', "wrong"),
        ('{"n": NaN}', "unparseable"),
        ("n is 1", "unparseable"),
        ("[" * 100_000, "unparseable"),
    ],
)
def test_json_by_schema(response: str, outcome: str) -> None:
    pytest.importorskip("jsonschema")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert verdict("json-schema", response, json_schema=schema).outcome == outcome
    assert verdict("json-schema", response).outcome == "error"


FOLLOWED: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["cat"]}, "A Cat sat.", "Category."),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, "a b a", "a"),
    ("keywords:forbidden_words", {"forbidden_words": ["no"]}, "None know.", "No."),
    (
        "keywords:letter_frequency",
        {"letter": "e", "let_frequency": 2, "let_relation": "less than"},
        "bee"[:2],
        "bee",
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "a b", "a b c"),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        "It is 3.5 m. Yes!",
        "It is 3.5 m",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "One.\n\nThen, two.",
        "Then.\n\nOne.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "[name]", "name"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hi\nP.S. bye", "Hi"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a*", "* a"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\na\nSECTION 2\nb",
        "SECTION 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<On cats>>\nThey sit.", "On cats"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why?"}, "why? Because.", "Because."),
    ("startend:end_checker", {"end_phrase": "The end."}, "So. the end.", "The end. So."),
    ("startend:quotation", {}, '"a"', '"a'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 1, "capital_relation": "at least"},
        "YES it is",
        "Yes",
    ),
    ("change_case:english_capital", {}, "YES!", "Yes!"),
    ("change_case:english_lowercase", {}, "yes!", "Yes!"),
    ("punctuation:no_comma", {}, "a b", "a, b"),
]


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), FOLLOWED)
def test_instructions(name: str, arguments: dict[str, Any], good: str, bad: str) -> None:
    meta: dict[str, Any] = {"instruction_id_list": [name], "kwargs": [arguments]}
    assert verdict("ifeval", good, **meta).outcome == "correct"
    assert verdict("ifeval", bad, **meta).outcome == "wrong"


def test_one_missed_instruction_is_wrong_and_an_unknown_one_unjudged() -> None:
    meta: dict[str, Any] = {
        "instruction_id_list": ["punctuation:no_comma", "change_case:english_lowercase"],
        "kwargs": "[null, {}]",
    }
    found = verdict("ifeval", "Yes", **meta)
    assert (found.outcome, found.metrics) == ("wrong", {"followed": [True, False], "share": 0.5})
    language: dict[str, Any] = {
        "instruction_id_list": ["language:response_language"],
        "kwargs": [{}],
    }
    assert verdict("ifeval", "Oui", **language).outcome == "error"


ADD = "```python\ndef add(a, b):\n    return a + b\n```"
MBPP = {"test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]}


@pytest.mark.parametrize(
    ("response", "meta", "outcome"),
    [
        (ADD, MBPP, "correct"),
        (ADD.replace("+", "-"), MBPP, "wrong"),
        ("```python\nimport os\nos._exit(0)\n```", MBPP, "wrong"),
        (ADD, {"test": "def check(f):\n    assert f(2, 2) == 4", "entry_point": "add"}, "correct"),
        (
            ADD,
            {"input_output": '{"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}'},
            "correct",
        ),
        ("print(int(input()) * 2)", {"inputs": ["4"], "outputs": ["8\n"]}, "correct"),
        ("print(int(input()) * 2)", {"tests": [{"input": "4", "output": "9"}]}, "wrong"),
        (ADD, {}, "error"),
    ],
)
def test_code_against_tests(response: str, meta: dict[str, Any], outcome: str) -> None:
    found = verdict("code-tests", response, **meta)
    assert found.outcome == outcome
    assert (found.reward is None) == (outcome == "error")


def test_a_sandbox_bounds_what_a_program_can_do() -> None:
    limits = Limits(seconds=1.5, file_bytes=1 << 20)
    before = descendants(os.getpid())
    hidden = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\nprint(1)"
    assert run_python(hidden, limits=limits).code == 0
    assert run_python("while True: pass", limits=limits).code is None
    assert descendants(os.getpid()) <= before
    big = run_python("x = bytearray(8 << 30)", limits=limits)
    assert big.code == 1 and "MemoryError" in big.stderr
    written = run_python("open('x', 'w').write('x' * (2 << 20))", limits=limits)
    assert written.code != 0
    os.environ["S2D_TEST_SECRET"] = "hunter2"
    try:
        assert "hunter2" not in run_python("import os; print(os.environ)", limits=limits).stdout
    finally:
        del os.environ["S2D_TEST_SECRET"]


@pytest.mark.skipif(not can_isolate(), reason="this system makes no namespaces for users")
def test_an_isolated_program_reaches_no_network_and_writes_no_file(tmp_path: Any) -> None:
    target = tmp_path / "x"
    refused = run_python(f"open({str(target)!r}, 'w')")
    assert refused.code == 1 and "Read-only file system" in refused.stderr
    kept = run_python("open('x', 'w').write('1'); print(open('x').read())")
    assert kept.stdout == "1\n"
    unreachable = run_python("import socket; socket.create_connection(('192.0.2.1', 53), 2)")
    assert unreachable.code == 1 and "unreachable" in unreachable.stderr
