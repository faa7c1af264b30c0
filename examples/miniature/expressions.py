r"""Task `expressions`: evaluate `7+5*3-1*4=` from left to right, keeping only the last digit.

Every running result is taken modulo 10, so `7+5=2`, `2*3=6`, `6-1=5`, `5*4=0`, and the answer is 0.
There are 8.1 million expressions of five digits and four operators. A chain is the expression with
its running results in place of its digits, `7+2*6-5*0\boxed{0}`.
"""

from __future__ import annotations

import numpy as np
from task import Habits, Ints, Task

OPERATORS = "+-*"
N_OPERATORS = 4


class Expressions(Task):
    """Expressions of single digits; a fact is the last digit of `a operator b`."""

    name = "expressions"
    symbols = OPERATORS + "="
    n_questions = 10 ** (N_OPERATORS + 1) * len(OPERATORS) ** N_OPERATORS
    n_results = n_answers = 10
    answer_digits = 1
    response_tokens = 2 * N_OPERATORS + 5

    def questions(self, numbers: Ints) -> list[str]:
        """The expressions as text, such as `7+5*3-1*4=`."""
        return [
            str(digits[0]) + _pairs(operators, digits[1:]) + "="
            for digits, operators in zip(*_split(numbers), strict=True)
        ]

    def true_facts(self) -> Ints:
        """int64 (3, 10, 10): the last digit of `a operator b` at [operator, a, b]."""
        a, b = np.arange(10)[:, None], np.arange(10)[None, :]
        return np.stack([a + b, a - b, a * b]) % 10

    def work_out(
        self, numbers: Ints, habits: Habits | None = None, rng: np.random.Generator | None = None
    ) -> Ints:
        """Running results (B, 4)."""
        digits, operators = _split(numbers)
        results = np.empty_like(operators)
        current = digits[:, 0]
        for step in range(N_OPERATORS):
            current = self.look_up((operators[:, step], current, digits[:, step + 1]), habits, rng)
            results[:, step] = current
        return results

    def answers(self, results: Ints) -> Ints:
        """The last running result."""
        return results[:, -1]

    def chains(self, numbers: Ints, results: Ints) -> list[str]:
        r"""Texts such as `7+2*6-5*0\boxed{0}`."""
        digits, operators = _split(numbers)
        return [
            str(first) + _pairs(steps, found) + self.boxed(found[-1])
            for first, steps, found in zip(digits[:, 0], operators, results, strict=True)
        ]


def _split(numbers: Ints) -> tuple[Ints, Ints]:
    """Digits int64 (B, 5) and operators int64 (B, 4) of the expressions with these numbers."""
    shape = (10,) * (N_OPERATORS + 1) + (len(OPERATORS),) * N_OPERATORS
    columns = np.stack(np.unravel_index(numbers, shape), axis=1)
    return columns[:, : N_OPERATORS + 1], columns[:, N_OPERATORS + 1 :]


def _pairs(operators: Ints, digits: Ints) -> str:
    return "".join(OPERATORS[o] + str(d) for o, d in zip(operators, digits, strict=True))
