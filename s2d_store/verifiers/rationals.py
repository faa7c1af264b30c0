"""Trees of written expressions, and the exact value of those that are rational.

Every step is bounded, whatever the text asks for: a value of more bits is not written out.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from s2d_store.verifiers.word_sets import word_set

Node = tuple[Any, ...]
"""`("num", Fraction)`, `("const", "pi" | "e" | "i")`, `("sym", name)`, or `(operation, *Nodes)`.

Operations: add, mul, div, pow, neg, root (radicand, degree), fact, fact2, binom, and
`("fn", name, argument)`; `("log", base, argument)` is a logarithm to a stated base.
"""
FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp abs floor ceil"
)
MAX_BITS = 100_000
"""Powers of up to so many bits are written out."""
MAX_FACTORIAL = 8_000


class NotRational(Exception):
    """The expression has no rational value that this file can see."""


class TooLarge(Exception):
    """The value is beyond the bounds of this file."""


def number(value: int | Fraction) -> Node:
    """The node of a rational number."""
    return ("num", Fraction(value))


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables in an expression."""
    if node[0] == "sym":
        return frozenset((node[1],))
    found: frozenset[str] = frozenset()
    for part in node[1:]:
        if isinstance(part, tuple):
            found |= symbols(part)
    return found


def rational(node: Node) -> Fraction:
    """The exact value of an expression.

    Raises:
        NotRational: it is not rational, or holds a variable.
        TooLarge: it, or a part of it, has more than `MAX_BITS` bits.
        ZeroDivisionError: it divides by zero.
    """
    operation = node[0]
    if operation == "num":
        return node[1]  # type: ignore[no-any-return]
    if operation == "pow":
        return _power(rational(node[1]), rational(node[2]))
    if operation == "root":
        return _power(rational(node[1]), 1 / rational(node[2]))
    if operation in ("const", "sym", "log"):
        raise NotRational
    if operation == "fn":
        if node[1] not in ("abs", "floor", "ceil"):
            raise NotRational
        value = rational(node[2])
        if node[1] == "abs":
            return abs(value)
        return Fraction(math.floor(value) if node[1] == "floor" else math.ceil(value))
    parts = [rational(part) for part in node[1:]]
    if operation == "neg":
        return -parts[0]
    if operation == "add":
        return _bounded(sum(parts, Fraction(0)))
    if operation == "mul":
        product = Fraction(1)
        for part in parts:
            product = _bounded(product * part)
        return product
    if operation == "div":
        return _bounded(parts[0] / parts[1])
    return Fraction(_counted(operation, parts))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        base, degree = _rooted(base, exponent.denominator), 1
        exponent = Fraction(exponent.numerator, degree)
    power = exponent.numerator
    if base in (0, 1, -1):
        return base ** (power if base == 0 else power % 2) if power else Fraction(1)
    if abs(power) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_BITS:
        raise TooLarge
    return base**power


def _rooted(base: Fraction, degree: int) -> Fraction:
    """The exact real root of a fraction that is a perfect power."""
    if degree > 1_000 or (base < 0 and degree % 2 == 0):
        raise NotRational
    sign = -1 if base < 0 else 1
    roots = [_integer_root(abs(part), degree) for part in (base.numerator, base.denominator)]
    return Fraction(sign * roots[0], roots[1])


def _integer_root(value: int, degree: int) -> int:
    if value < 2:
        return value
    guess = 1 << -(-value.bit_length() // degree)
    while True:  # Newton's method from above.
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            break
        guess = better
    if guess**degree != value:
        raise NotRational
    return guess


def _counted(operation: str, parts: list[Fraction]) -> int:
    """Factorial, double factorial or binomial of integers."""
    if any(part.denominator != 1 or part < 0 for part in parts):
        raise NotRational
    if any(part > MAX_FACTORIAL for part in parts):
        if operation == "binom" and parts[1] <= 200 and parts[0].numerator.bit_length() <= 256:
            return math.comb(int(parts[0]), int(parts[1]))
        raise TooLarge
    if operation == "fact":
        return math.factorial(int(parts[0]))
    if operation == "fact2":
        return math.prod(range(int(parts[0]), 0, -2))
    return math.comb(int(parts[0]), int(parts[1]))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 2 * MAX_BITS:
        raise TooLarge
    return value
