"""Values that are not rational, to a precision at which no written term can hide.

mpmath is used where it is loaded for the first such value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from s2d_store.verifiers.rationals import MAX_FACTORIAL, Node, NotRational, TooLarge, rational

MAX_PRECISION = 20_000
"""Bits used at most."""
PRECISION_OF_FACTORIALS = 2_000
"""Bits used at most where a factorial is too large to write out."""
MAX_EXPONENT_BITS = 40
"""Powers and exponentials beyond 2**(2**40) are not evaluated."""


def _size(node: Node) -> float:
    """Bits that the written numbers of an expression stand for, at most `MAX_PRECISION`."""
    operation = node[0]
    if operation == "num":
        return float(node[1].numerator.bit_length() + node[1].denominator.bit_length())
    sizes = [_size(part) for part in node[1:] if isinstance(part, tuple)]
    if operation in ("pow", "fact", "fact2", "binom"):
        try:
            exponent = abs(rational(node[-1]))
            times = float(exponent) if exponent < MAX_PRECISION else float(MAX_PRECISION)
        except (NotRational, TooLarge, ZeroDivisionError):
            times = 4.0
        sizes.append(sizes[0] * max(1.0, times))
    return min(float(MAX_PRECISION), sum(sizes))


def _most_precision(node: Node) -> int:
    """Bits at which an expression can be evaluated in a fraction of a second."""
    if node[0] in ("fact", "fact2", "binom"):
        try:
            if any(abs(rational(part)) > MAX_FACTORIAL for part in node[1:]):
                return PRECISION_OF_FACTORIALS
        except (NotRational, TooLarge, ZeroDivisionError):
            return PRECISION_OF_FACTORIALS
    parts = [_most_precision(part) for part in node[1:] if isinstance(part, tuple)]
    return min(parts, default=MAX_PRECISION)


def same_approximately(
    left: Node, right: Node, values: Mapping[str, Fraction] | None = None
) -> bool | None:
    """Agreement to so many bits that no written number can hide in what is cut off."""
    import mpmath  # type: ignore[import-untyped]

    enough = 200 + 4 * (_size(left) + _size(right))
    most = min(_most_precision(left), _most_precision(right))
    for turn in range(2):
        precision = int(min(most, enough)) if turn else 100
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
    return sums.spread < most / 2


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
    return all(x.imag == 0 or abs(x.imag) < abs(x.real) * 2.0 ** (-precision / 2) for x in (a, b))


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
        _check_real(parts[0], parts[1], values)
        return _approximate_power(parts[0], parts[1], mp)
    if operation == "root":
        if parts[0].imag == 0 and parts[0].real < 0 and parts[1] % 2 == 1:
            return -mp.root(-parts[0], int(parts[1]))
        _check_real(parts[0], 1 / parts[1], values)
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


def _check_real(base: Any, exponent: Any, values: Mapping[str, Fraction]) -> None:
    """With variables, a root of a negative number is outside the functions' common domain."""
    if values and base.imag == 0 and base.real < 0 and exponent != int(exponent.real):
        raise NotRational


def _approximate_power(base: Any, exponent: Any, mp: Any) -> Any:
    if exponent != 0 and base != 0 and mp.mag(exponent) > MAX_EXPONENT_BITS:
        raise TooLarge
    if base == 0 and exponent.real <= 0:
        raise ZeroDivisionError
    negative = base.imag == 0 and base.real < 0 and exponent.imag == 0
    if negative and exponent * 2 != int(exponent.real * 2):
        # (-8)^{1/3}: the real root or the principal one, which is a matter of taste.
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
