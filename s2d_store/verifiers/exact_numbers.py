"""Whether two written expressions have the same value, decided exactly where that is possible.

Rational values are compared as fractions; rational values too large to write out, modulo several
large primes; all others by evaluation with a precision that grows with the size of the
expression, so that no term is lost beside a larger one. Expressions with variables are compared
at fixed points.
"""

from __future__ import annotations

from fractions import Fraction

from s2d_store.verifiers.approximations import same_approximately
from s2d_store.verifiers.rationals import Node, NotRational, TooLarge, rational, symbols
from s2d_store.verifiers.residues import primes, residue


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
            return all(residue(left, p, {}) == residue(right, p, {}) for p in primes())
        except (NotRational, TooLarge, ZeroDivisionError):
            pass
    return same_approximately(left, right)


def _rational_or_none(node: Node) -> Fraction | str | None:
    try:
        return rational(node)
    except NotRational:
        return None
    except TooLarge:
        return "too large"
    except ZeroDivisionError:
        return None


def _same_function(left: Node, right: Node) -> bool | None:
    """Equality for all values of the variables, tried at points of no special kind."""
    names = sorted(symbols(left) | symbols(right))
    try:
        prime = primes()[0]
        values = {name: _pick(at, 0) * 7_919 % prime for at, name in enumerate(names)}
        return residue(left, prime, values) == residue(right, prime, values)
    except (NotRational, TooLarge, ZeroDivisionError):
        pass
    agreed = 0
    for turn in range(6):
        point = {
            name: Fraction(_pick(at, turn) % 9_973 + 700, 4_001) * (1 if turn < 3 else -1)
            for at, name in enumerate(names)
        }
        same = same_approximately(left, right, point)
        if same is False:
            return False
        agreed += same is True
    return True if agreed >= 2 else None


def _pick(at: int, turn: int) -> int:
    return pow(1_000_003, 3 + 7 * at + 101 * turn, 2**89 - 1)
