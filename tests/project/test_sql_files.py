"""SQL stands in files: no statement of more than a line is written inside Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("s2d_store", "cli", "trainers", "viewer")
STATEMENT = re.compile(r"\s*(SELECT|WITH|FROM|CREATE|INSERT|UPDATE|DELETE)\s+\S+.*\S", re.DOTALL)
# Statements put together from tables, columns, conditions or paths, which cannot be bound (in a
# view, nothing can): how many in each file, and of what.
COMPOSED = {
    "s2d_store/accounting/guard.py": (1, "the view that counts a metric's labels"),
    "s2d_store/audits/topk_consistency.py": (1, "the paths of files"),
    "s2d_store/datasets/locate.py": (2, "the paths of files, and the columns that a kind needs"),
    "s2d_store/datasets/teacher_routes.py": (1, "a parameter's SQL, in a view"),
    "s2d_store/maintenance/log_health.py": (1, "a table and its key"),
    "s2d_store/maintenance/repair_advice.py": (1, "a table and its columns"),
    "s2d_store/rollouts/grade.py": (1, "the condition of --where"),
    "s2d_store/rollouts/scored.py": (1, "the condition of --where"),
    "s2d_store/sql/connection.py": (2, "columns, the paths of files, and names of views"),
    "viewer/selection.py": (1, "a page's condition, in a view"),
}


def statements(tree: ast.AST) -> Iterator[int]:
    """The first lines of SQL statements of more than one line."""
    parts = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    for node in ast.walk(tree):
        if id(node) not in parts and isinstance(node, ast.Constant | ast.JoinedStr):
            text, last = _text(node), node.end_lineno or node.lineno
            if STATEMENT.fullmatch(text) and last > node.lineno:
                yield node.lineno


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(_text(v) if isinstance(v, ast.Constant) else "x" for v in node.values)


def test_statements_stand_in_files() -> None:
    found = {}
    for path in (path for name in OURS for path in sorted((ROOT / name).rglob("*.py"))):
        if lines := list(statements(ast.parse(path.read_text()))):
            found[path.relative_to(ROOT).as_posix()] = lines
    counts = {place: len(lines) for place, lines in found.items()}
    expected = {place: count for place, (count, _) in COMPOSED.items()}
    assert counts == expected, (
        f"make it a file of queries/internal/, read by queries.internal(NAME): {found}"
    )


@pytest.mark.parametrize(
    "code",
    [
        'x = "SELECT a "\\\n"FROM b"',
        'x = f"SELECT {a} "\\\n"FROM b"',
        'x = """\nWITH a AS (SELECT 1)\nFROM a"""',
    ],
)
def test_each_is_noticed(code: str) -> None:
    assert list(statements(ast.parse(code))) == [1]


def test_prose_and_single_lines_are_not() -> None:
    for code in ('x = "SELECT 1"', 'x = "from here "\\\n"to there"', '"""From\nhere."""'):
        assert list(statements(ast.parse(code))) == []
