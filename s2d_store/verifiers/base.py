"""The verifier protocol: a response and a gold answer in, a graded outcome out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["correct", "wrong", "unparseable", "timeout", "error"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "unparseable", "timeout", "error")


@dataclass(frozen=True)
class Verdict:
    """What a verifier said of one response.

    Attributes:
        reward: 1.0 or 0.0 for a rule-based verifier; any finite float for others.
        outcome: what happened; only `correct` and `wrong` are judgements of the answer.
        extracted: the answer that was read from the response, as text; empty when none was.
        detail: the error or reason, as text; empty when there is none.
    """

    reward: float
    outcome: Outcome
    extracted: str = ""
    detail: str = ""


class Verifier(Protocol):
    """A verifier runs inside a worker process and may hang or crash: the pool guards against it.

    Register one under the entry-point group `s2d.verifiers`; the class is created without
    arguments once in every worker.

    Attributes:
        name: stored with every reward, e.g. `math-verify`.
        version: stored with every reward; change it whenever verdicts can change.
    """

    name: str
    version: str

    def verify(self, response: str, answer: str) -> Verdict:
        """Grade `response` (text as the policy wrote it) against the gold `answer`."""
        ...
