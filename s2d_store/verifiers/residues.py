"""Rational values too large to write out, compared modulo several large primes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

from s2d_store.verifiers.rationals import MAX_FACTORIAL, Node, NotRational, rational

MAX_FACTORIAL_MODULO = 50_000
"""Factorials up to here are compared modulo primes where they are too large to write out."""
# Without structure: no power that anybody writes is 1 modulo all of them.
_STARTS = (
    0xC4F4B8A5D3E71B2F90A6D9E58C1B4F6B,
    0xE83D1A7C95F2604B8E5D7C31A09F6E47,
    0x9B1F0D5E7A3C82646F18D2B7C5E9A08D,
)


@cache
def primes() -> tuple[int, ...]:
    """The first prime at or after each number of `_STARTS`."""
    return tuple(_next_prime(start) for start in _STARTS)


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


def residue(node: Node, prime: int, values: Mapping[str, int]) -> int:
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
        base = residue(node[1], prime, values)
        if base == 0 and exponent <= 0:
            raise ZeroDivisionError
        return pow(base, exponent.numerator, prime)
    if operation == "neg":
        return -residue(node[1], prime, values) % prime
    if operation == "add":
        return sum(residue(part, prime, values) for part in node[1:]) % prime
    if operation == "mul":
        product = 1
        for part in node[1:]:
            product = product * residue(part, prime, values) % prime
        return product
    if operation == "div":
        over, under = (residue(part, prime, values) for part in node[1:])
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
