r"""Task `addition`: add two numbers of three digits, `475+386=`, with a scratch pad.

A chain adds column by column from the right, and writes each column's sum, the carry before it
included, in two digits: `5+6=11,7+8=16,4+3=08,\boxed{0861}`. There are 810,000 questions.

Its settings were chosen before its first run and have stood since: see docs/miniature.md.
"""

from __future__ import annotations

import numpy as np
from task import Habits, Ints, Task

N_DIGITS = 3
# Numbers of three digits.
_FIRST, _COUNT = 10 ** (N_DIGITS - 1), 9 * 10 ** (N_DIGITS - 1)


class Addition(Task):
    """Sums of two numbers; a fact is the sum of two digits and a carry."""

    name = "addition"
    symbols = "+=,"
    n_questions = _COUNT**2
    n_results = 20
    n_answers = 2 * 10**N_DIGITS
    answer_digits = N_DIGITS + 1
    response_tokens = 7 * N_DIGITS + answer_digits + 3

    def questions(self, numbers: Ints) -> list[str]:
        """The sums as text, such as `475+386=`."""
        return [f"{a}+{b}=" for a, b in zip(*_terms(numbers), strict=True)]

    def true_facts(self) -> Ints:
        """int64 (2, 10, 10): `a + b + carry` at [carry, a, b]."""
        carry, a, b = np.ogrid[:2, :10, :10]
        return carry + a + b

    def work_out(
        self, numbers: Ints, habits: Habits | None = None, rng: np.random.Generator | None = None
    ) -> Ints:
        """Sums of the columns (B, 3), from the right."""
        a, b = map(_columns, _terms(numbers))
        results = np.empty_like(a)
        carry = np.zeros(len(numbers), np.int64)
        for step in range(N_DIGITS):
            results[:, step] = self.look_up((carry, a[:, step], b[:, step]), habits, rng)
            carry = results[:, step] // 10
        return results

    def answers(self, results: Ints) -> Ints:
        """The number that the columns' last digits and the last carry make."""
        places = 10 ** np.arange(N_DIGITS)
        return (results % 10) @ places + results[:, -1] // 10 * 10**N_DIGITS

    def chains(self, numbers: Ints, results: Ints) -> list[str]:
        r"""Texts such as `5+6=11,7+8=16,4+3=08,\boxed{0861}`."""
        a, b = map(_columns, _terms(numbers))
        return [
            "".join(f"{x}+{y}={z:02d}," for x, y, z in zip(*columns, strict=True))
            + self.boxed(answer)
            for *columns, answer in zip(a, b, results, self.answers(results), strict=True)
        ]


def _terms(numbers: Ints) -> tuple[Ints, Ints]:
    """Both terms int64 (B,) of the sums with these numbers."""
    return _FIRST + numbers // _COUNT, _FIRST + numbers % _COUNT


def _columns(terms: Ints) -> Ints:
    """Digits int64 (B, 3) of numbers (B,), the last one first."""
    return terms[:, None] // 10 ** np.arange(N_DIGITS) % 10
