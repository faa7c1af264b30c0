"""math-verify's comparison with exact numbers: a copy of its grader whose number tests are ours.

math-verify 0.9 evaluates numbers with 15 digits, drops what is below 1e-15 and rounds decimals to
six places. Here every number in its sets, tuples, intervals, matrices and equations is compared
by `agreement.same_number` instead. The copy leaves the installed package as it is.
"""

from __future__ import annotations

import importlib.util
import re
from fractions import Fraction
from types import ModuleType
from typing import Any

from s2d_store.verifiers.agreement import same_number
from s2d_store.verifiers.expressions import Written
from s2d_store.verifiers.rationals import FUNCTIONS, MAX_BITS, Node, number
from s2d_store.verifiers.residues import MAX_FACTORIAL_MODULO

MAX_NODES = 2_000
MAX_TERMS = 10_000
"""Terms of a sum or product in signs, beyond which it is not worked out."""
_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "Abs": "abs", "ceiling": "ceil"}


def exact_grader() -> ModuleType:
    """A private copy of `math_verify.grader` that compares numbers exactly."""
    spec = importlib.util.find_spec("math_verify.grader")
    assert spec is not None and spec.loader is not None
    grader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(grader)
    numeric, symbolic = grader.sympy_numeric_eq, grader.sympy_symbolic_eq

    def numeric_eq(a: Any, b: Any, float_rounding: int, numeric_precision: int) -> bool:
        same = same_numbers(a, b)
        if same is not None:
            return same
        if _is_matrix(a) or _is_matrix(b):
            return bool(numeric(a, b, float_rounding, numeric_precision))
        return False

    def symbolic_eq(a: Any, b: Any) -> bool:
        same = same_numbers(a, b)
        return bool(symbolic(a, b)) if same is None else same

    grader.sympy_numeric_eq = numeric_eq  # type: ignore[attr-defined]
    grader.sympy_symbolic_eq = symbolic_eq  # type: ignore[attr-defined]
    return grader


def as_sets(gold: Any, parsed: Any) -> tuple[Any, Any]:
    r"""Both sides, a condition as the set that it states where the other side is a union.

    `x < 1 or x > 2` beside a union of intervals, in either place, and `x \neq 2` beside
    anything: math-verify compares no two inequalities of that kind.
    """
    import sympy  # type: ignore[import-untyped]

    gold, parsed = (_where_unequal(side) for side in (gold, parsed))
    if isinstance(gold, sympy.Union):
        return gold, _as_union(parsed)
    return (_as_union(gold), parsed) if isinstance(parsed, sympy.Union) else (gold, parsed)


def _where_unequal(side: Any) -> Any:
    import sympy

    return side.as_set() if isinstance(side, sympy.Ne) and len(side.free_symbols) == 1 else side


def _as_union(side: Any) -> Any:
    import sympy

    if not isinstance(side, (sympy.FiniteSet, sympy.Tuple)):
        return side
    relations = [part for part in side.args if isinstance(part, sympy.core.relational.Relational)]
    if len(relations) != len(side.args) or len(side.free_symbols) != 1:
        return side
    return sympy.Union(*(relation.as_set() for relation in relations))


def is_laborious(expression: Any) -> bool:
    """Whether sympy would work for seconds: long sums and products, huge powers and factorials."""
    import sympy

    for part in sympy.preorder_traversal(expression):
        sizes, most = [], 0
        if isinstance(part, (sympy.Sum, sympy.Product)):
            sizes, most = [last - first for _, first, last in part.limits], MAX_TERMS
        elif isinstance(part, sympy.Pow):
            sizes, most = [abs(part.exp)], MAX_BITS
        elif isinstance(part, (sympy.factorial, sympy.binomial)):
            sizes, most = list(part.args), MAX_FACTORIAL_MODULO
        if any(size.is_Integer and size > most for size in sizes):
            return True
    return False


def same_numbers(a: Any, b: Any) -> bool | None:
    """Whether two sympy expressions are the same; None when one is not one of ours."""
    left, right = written(a), written(b)
    if left is None or right is None:
        return None
    return same_number(left, right)


def written(expression: Any) -> Written | None:
    """A sympy expression as our tree, with what is known of how it was written."""
    import sympy

    if _is_matrix(expression) or not isinstance(expression, sympy.Expr):
        return None
    percent = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
    mark = ""
    marked = isinstance(expression, sympy.Mul) and len(expression.args) == 2
    if marked and expression.args[1] == percent:
        expression, mark = expression.args[0], "%"
    if isinstance(expression, sympy.Float):
        value, decimals, digits = _decimal(expression)
        return Written(number(value), decimals, digits, mark)
    try:
        return Written(_node(expression, [0]), mark=mark)
    except (_Unknown, RecursionError):
        return None


class _Unknown(Exception):
    pass


def _decimal(value: Any) -> tuple[Fraction, int, int]:
    """A sympy float as the decimal that it was read from."""
    found = re.fullmatch(r"-?(\d*)\.?(\d*)(?:e([-+]?\d+))?", str(value))
    if found is None:
        raise _Unknown
    part = found[2].rstrip("0")
    decimals = max(len(part) - int(found[3] or 0), 0)
    if abs(int(found[3] or 0)) > 10_000:
        raise _Unknown
    return Fraction(str(value)), decimals, len((found[1] + part).lstrip("0"))


def _node(expression: Any, count: list[int]) -> Node:
    import sympy

    count[0] += 1
    if count[0] > MAX_NODES:
        raise _Unknown
    if isinstance(expression, sympy.Rational):
        return number(Fraction(int(expression.p), int(expression.q)))
    if isinstance(expression, sympy.Float):
        return number(_decimal(expression)[0])
    if expression in (sympy.pi, sympy.E, sympy.I):
        return ("const", {sympy.pi: "pi", sympy.E: "e", sympy.I: "i"}[expression])
    if isinstance(expression, sympy.Symbol):
        return ("sym", expression.name)
    if isinstance(expression, sympy.UnevaluatedExpr):
        return _node(expression.args[0], count)
    name = type(expression).__name__
    operation = {"Add": "add", "Mul": "mul", "Pow": "pow", "factorial": "fact", "binomial": "binom"}
    if name in operation and expression.args:
        parts = [_node(part, count) for part in expression.args]
        return (operation[name], *parts)
    if name == "exp":
        return ("fn", "exp", _node(expression.args[0], count))
    if name == "log":
        parts = [_node(part, count) for part in expression.args]
        return ("log", parts[1], parts[0]) if len(parts) == 2 else ("fn", "ln", parts[0])
    name = _NAMES.get(name, name)
    if name in FUNCTIONS - {"ln", "log", "exp"}:
        return ("fn", name, _node(expression.args[0], count))
    raise _Unknown


def _is_matrix(expression: Any) -> bool:
    import sympy

    return isinstance(expression, (sympy.MatrixBase, sympy.MatrixExpr))
