"""Whether two written expressions have the same value, decided exactly where that is possible.

An expression is a small tree of tuples (`Node`), made by `expressions.py` from text or by
`exact_grader.py` from sympy. Rational values are compared as fractions; rational values too large
to write out, modulo several large primes; all others by evaluation with a precision that grows
with the size of the expression, so that no term is lost beside a larger one. Expressions with
variables are compared at fixed points. Every step is bounded, whatever the text asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

Node = tuple[Any, ...]
"""`("num", Fraction)`, `("const", "pi" | "e" | "i")`, `("sym", name)`, or `(operation, *Nodes)`.

Operations: add, mul, div, pow, neg, root (radicand, degree), fact, fact2, binom, and
`("fn", name, argument)`; `("log", base, argument)` is a logarithm to a stated base.
"""
MAX_BITS = 100_000
"""Rationals of up to so many bits are written out."""
MAX_FACTORIAL = 8_000
MAX_FACTORIAL_MODULO = 50_000
"""Factorials up to here are compared modulo primes where they are too large to write out."""
MAX_PRECISION = 20_000
"""Bits used at most for values that are not rational."""
MAX_EXPONENT_BITS = 40
"""Powers and exponentials beyond 2**(2**40) are not evaluated."""

# Large primes without structure: no power that anybody writes is 1 modulo all of them.
_PRIMES = (
    0xC4F4B8A5D3E71B2F90A6D9E58C1B4F6B,
    0xE83D1A7C95F2604B8E5D7C31A09F6E47,
    0x9B1F0D5E7A3C82646F18D2B7C5E9A08D,
)
_FUNCTIONS = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp abs floor ceil"
).split()
FUNCTIONS = frozenset(_FUNCTIONS)


class NotRational(Exception):  # noqa: N818 - a signal between functions of this file
    """The expression has no rational value that this file can see."""


class TooLarge(Exception):  # noqa: N818
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


def same_value(left: Node, right: Node) -> bool | None:
    """Whether two expressions have the same value; None when this cannot be decided here."""
    if left == right:
        return True
    if symbols(left) | symbols(right):
        return _same_function(left, right)
    values = [_rational_or_none(node) for node in (left, right)]
    if all(isinstance(value, Fraction) for value in values):
        return bool(values[0] == values[1])
    if "too large" in values:
        try:
            return all(_residue(left, p, {}) == _residue(right, p, {}) for p in _primes())
        except (NotRational, TooLarge, ZeroDivisionError):
            pass
    return _same_approximately(left, right)


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
        return Fraction({"abs": abs, "floor": math.floor, "ceil": math.ceil}[node[1]](value))
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


def _rational_or_none(node: Node) -> Fraction | str | None:
    try:
        return rational(node)
    except NotRational:
        return None
    except TooLarge:
        return "too large"
    except ZeroDivisionError:
        return None


# --- modulo primes ------------------------------------------------------------------------------


@cache
def _primes() -> tuple[int, ...]:
    """The first prime at or after each number of `_PRIMES`."""
    return tuple(_next_prime(start) for start in _PRIMES)


def _next_prime(start: int) -> int:
    candidate = start | 1
    while not all(_passes(candidate, base) for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31)):
        candidate += 2
    return candidate


def _passes(candidate: int, base: int) -> bool:
    """The Miller-Rabin test."""
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    power = pow(base, odd, candidate)
    if power in (1, candidate - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % candidate
        if power == candidate - 1:
            return True
    return False


def _residue(node: Node, prime: int, values: Mapping[str, int]) -> int:
    """The value of a rational expression modulo a prime."""
    operation = node[0]
    if operation == "num":
        return _divided(node[1].numerator, node[1].denominator, prime)
    if operation == "sym" and node[1] in values:
        return values[node[1]]
    if operation == "pow":
        exponent = rational(node[2])
        if exponent.denominator != 1:
            raise NotRational
        base = _residue(node[1], prime, values)
        if base == 0 and exponent <= 0:
            raise ZeroDivisionError
        return pow(base, exponent.numerator, prime)
    if operation == "neg":
        return -_residue(node[1], prime, values) % prime
    if operation == "add":
        return sum(_residue(part, prime, values) for part in node[1:]) % prime
    if operation == "mul":
        product = 1
        for part in node[1:]:
            product = product * _residue(part, prime, values) % prime
        return product
    if operation == "div":
        over, under = (_residue(part, prime, values) for part in node[1:])
        return _divided(over, under, prime)
    if operation == "fact" and MAX_FACTORIAL < rational(node[1]) <= MAX_FACTORIAL_MODULO:
        return _factorial_residue(rational(node[1]).numerator, prime)
    value = rational(node)
    return _divided(value.numerator, value.denominator, prime)


@lru_cache(maxsize=64)
def _factorial_residue(count: int, prime: int) -> int:
    product = 1
    for factor in range(2, count + 1):
        product = product * factor % prime
    return product


def _divided(over: int, under: int, prime: int) -> int:
    if under % prime == 0:
        raise ZeroDivisionError
    return over * pow(under, -1, prime) % prime


# --- approximately ------------------------------------------------------------------------------


def _size(node: Node) -> float:
    """Bits that the written numbers of an expression stand for, at most `MAX_PRECISION`."""
    operation = node[0]
    if operation == "num":
        return float(node[1].numerator.bit_length() + node[1].denominator.bit_length())
    sizes = [_size(part) for part in node[1:] if isinstance(part, tuple)]
    if operation in ("pow", "fact", "fact2", "binom"):
        try:
            exponent = abs(rational(node[-1]))
            times = float(min(exponent, MAX_PRECISION))
        except (NotRational, TooLarge, ZeroDivisionError):
            times = 4.0
        sizes.append(sizes[0] * max(1.0, times))
    return min(float(MAX_PRECISION), sum(sizes))


def _same_approximately(
    left: Node, right: Node, values: Mapping[str, Fraction] | None = None
) -> bool | None:
    """Agreement to so many bits that no written number can hide in what is cut off."""
    import mpmath  # type: ignore[import-untyped]

    enough = 200 + 4 * (_size(left) + _size(right))
    for turn in range(2):
        precision = int(min(MAX_PRECISION, enough)) if turn else 100
        found = []
        sums = _Sums()
        with mpmath.workprec(precision):
            for node in (left, right):
                try:
                    found.append(_approximate(node, values or {}, mpmath.mp, sums))
                except TooLarge:
                    found.append(None)
                except (ZeroDivisionError, ValueError, OverflowError, NotRational):
                    return None
            if found[0] is None or found[1] is None:
                # Both beyond bounds and not written alike: taken for different.
                return False
            a, b = found
            if values is not None and not _is_real(a, b, precision):
                return None
            difference = abs(a - b)
            if difference != 0:
                if not mpmath.isfinite(difference):
                    return None
                largest = max(sums.largest, mpmath.mag(a), mpmath.mag(b))
                if mpmath.mag(difference) > largest - precision * 0.7:
                    return False
            enough += 2 * sums.spread
    # A term too small to be seen at any precision that is used: not known to be the same.
    return sums.spread < MAX_PRECISION / 2


class _Sums:
    """Bits of the largest term met in any sum, and of the widest gap between two terms of one."""

    def __init__(self) -> None:
        self.largest = -(2**62)
        self.spread = 0

    def add(self, sizes: list[int]) -> None:
        if sizes:
            self.largest = max(self.largest, *sizes)
            self.spread = max(self.spread, max(sizes) - min(sizes))


def _is_real(a: Any, b: Any, precision: int) -> bool:
    return all(
        x.imag == 0 or abs(x.imag) < abs(x.real) * 2.0 ** (-precision / 2) for x in (a, b)
    )


def _approximate(node: Node, values: Mapping[str, Fraction], mp: Any, sums: _Sums) -> Any:
    """The value in mpmath's current precision."""
    operation = node[0]
    if operation == "num":
        return mp.mpf(node[1].numerator) / node[1].denominator
    if operation == "const":
        return {"pi": mp.pi, "e": mp.e, "i": mp.j}[node[1]] * 1
    if operation == "sym":
        value = values[node[1]]
        return mp.mpf(value.numerator) / value.denominator
    if operation == "fn":
        return _function(node[1], _approximate(node[2], values, mp, sums), mp)
    parts = [_approximate(part, values, mp, sums) for part in node[1:]]
    if operation == "neg":
        return -parts[0]
    if operation == "add":
        sums.add([int(mp.mag(part)) for part in parts if part != 0])
        return mp.fsum(parts)
    if operation == "mul":
        return mp.fprod(parts)
    if operation == "div":
        return parts[0] / parts[1]
    if operation == "pow":
        return _approximate_power(parts[0], parts[1], mp)
    if operation == "root":
        if parts[0].imag == 0 and parts[0].real < 0 and parts[1] % 2 == 1:
            return -mp.root(-parts[0], int(parts[1]))
        return _approximate_power(parts[0], 1 / parts[1], mp)
    if operation == "log":
        return mp.log(parts[1]) / mp.log(parts[0])
    if any(part != 0 and mp.mag(part) > MAX_EXPONENT_BITS for part in parts):
        raise TooLarge
    if operation == "fact":
        return mp.factorial(parts[0])
    if operation == "fact2":
        return mp.fac2(parts[0])
    return mp.binomial(parts[0], parts[1])


def _approximate_power(base: Any, exponent: Any, mp: Any) -> Any:
    if exponent != 0 and base != 0 and mp.mag(exponent) > MAX_EXPONENT_BITS:
        raise TooLarge
    if base == 0 and exponent.real <= 0:
        raise ZeroDivisionError
    if base.imag == 0 and base.real < 0 and exponent.imag == 0 and exponent != int(exponent.real):
        # (-8)^{1/3}: the real root or the principal one, which is a matter of taste.
        if exponent * 2 != int(exponent.real * 2):
            raise NotRational
    return base**exponent


def _function(name: str, x: Any, mp: Any) -> Any:
    if x != 0 and mp.mag(x) > (MAX_EXPONENT_BITS if name in ("exp", "sinh", "cosh") else 4_000):
        raise TooLarge
    if name in ("floor", "ceil"):
        nearest = mp.nint(x)
        if abs(x - nearest) < mp.mpf(2) ** (-mp.prec // 2):
            return nearest
    names: dict[str, Callable[[Any], Any]] = {
        "arcsin": mp.asin,
        "arccos": mp.acos,
        "arctan": mp.atan,
        "ln": mp.log,
        "log": mp.log,
        "abs": abs,
    }
    value = names.get(name, getattr(mp, name, None))(x)  # type: ignore[misc]
    if name in ("tan", "sec", "cot", "csc") and value != 0 and mp.mag(value) > mp.prec // 2:
        raise ZeroDivisionError
    return value


# --- variables ----------------------------------------------------------------------------------


def _same_function(left: Node, right: Node) -> bool | None:
    """Equality for all values of the variables, tried at points of no special kind."""
    names = sorted(symbols(left) | symbols(right))
    try:
        prime = _primes()[0]
        values = {name: _pick(at, 0) * 7_919 % prime for at, name in enumerate(names)}
        return _residue(left, prime, values) == _residue(right, prime, values)
    except (NotRational, TooLarge, ZeroDivisionError):
        pass
    agreed = 0
    for turn in range(6):
        point = {
            name: Fraction(_pick(at, turn) % 9_973 + 700, 4_001) * (1 if turn < 3 else -1)
            for at, name in enumerate(names)
        }
        same = _same_approximately(left, right, point)
        if same is False:
            return False
        agreed += same is True
    return True if agreed >= 2 else None


def _pick(at: int, turn: int) -> int:
    return pow(1_000_003, 3 + 7 * at + 101 * turn, 2**89 - 1)


def approximate(node: Node) -> Fraction | None:
    """The value of a real number without variables, to 100 bits; None when it is none."""
    import mpmath

    with mpmath.workprec(100 + int(min(_size(node), 2_000.0))):
        try:
            value = _approximate(node, {}, mpmath.mp, _Sums())
        except (TooLarge, NotRational, ZeroDivisionError, ValueError, OverflowError):
            return None
        if value.imag != 0 or not mpmath.isfinite(value) or abs(mpmath.mag(value)) > 10_000:
            return None
        sign, mantissa, exponent, _ = value.real._mpf_
        return (-1 if sign else 1) * Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
