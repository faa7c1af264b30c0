"""Several of a user's mistakes, told together: each looked for, all of them in one error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from s2d_store.errors import InputError, S2DError


class SeveralMistakes(InputError):
    """More than one mistake, each with its own reason and fix.

    Args:
        what: how many there are, and in what.
        found: the mistakes.
    """

    def __init__(self, what: str, found: Sequence[S2DError]) -> None:
        self.found = tuple(found)
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        for number, error in enumerate(self.found, 1):
            first, *rest = str(error).split("\n")
            lines += [f"  {number}. {first}", *(f"   {line}" for line in rest)]
        return "\n".join(lines)


class Mistakes:
    """Gathers errors, so that the user is told all of them at once."""

    def __init__(self) -> None:
        """Start with none."""
        self.found: list[S2DError] = []

    def add(self, error: S2DError) -> None:
        """Take one more; an error that is there already, word for word, is taken once."""
        several = error.found if isinstance(error, SeveralMistakes) else (error,)
        known = {str(other) for other in self.found}
        self.found += [one for one in several if str(one) not in known]

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Take what the block raises, and go on after it."""
        try:
            yield
        except S2DError as error:
            self.add(error)

    def raise_all(self, of: str) -> None:
        """Raise what was found, if anything.

        Args:
            of: what has the mistakes, for the message.

        Raises:
            S2DError: the one mistake, or all of them as one.
        """
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            raise SeveralMistakes(f"{of} has {len(self.found)} mistakes", self.found)
