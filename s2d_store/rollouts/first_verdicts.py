"""A verifier that judges none of the first rollouts is broken: stop before anything is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from s2d_store.errors import InputError
from s2d_store.verifiers.base import Verdict

Graded = tuple[str, Verdict, float]
"""A rollout's id, its verdict, and the seconds it took."""
FIRST_ROWS = 16
LEAST_ROWS = 4
"""With fewer rollouts to grade than this, a hard one or two may be all there is."""


def require_judgements(verifier: str, graded: Sequence[Graded]) -> None:
    """Refuse a start of LEAST_ROWS verdicts or more of which none is a judgement.

    Raises:
        InputError: with the first reason.
    """
    if len(graded) < LEAST_ROWS or any(verdict.judged for _, verdict, _ in graded):
        return
    rollout_id, verdict, _ = graded[0]
    raise InputError(
        f"verifier {verifier} judged none of the first {len(graded)} rollouts",
        f"rollout {rollout_id}: {verdict.outcome}: {verdict.detail}",
        "repair the verifier or the gold answers, raise --deadline where it timed out; no verdict "
        "was stored",
    )


def checked_start(verifier: str, graded: Iterable[Graded]) -> Iterator[Graded]:
    """Pass verdicts on, once `require_judgements` has let the first FIRST_ROWS through."""
    source = iter(graded)
    first = list(islice(source, FIRST_ROWS))
    require_judgements(verifier, first)
    yield from first
    yield from source
