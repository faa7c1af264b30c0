"""A verifier pool that stays open from use to use: its processes take a second to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from s2d_store.verifiers.pool import VerifierPool

OpenPool = Callable[[str, int, float], AbstractContextManager[VerifierPool]]
"""Called as `VerifierPool`, with verifier, workers and deadline: a context that gives a pool."""


class PoolCache:
    """Opens pools and keeps the last one for whoever asks for the same; after an error, none."""

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._asked: tuple[str, int, float] | None = None
        self._pool: VerifierPool | None = None

    @contextmanager
    def __call__(self, verifier: str, workers: int, deadline_s: float) -> Iterator[VerifierPool]:
        """See `OpenPool`."""
        asked = (verifier, workers, deadline_s)
        if self._pool is None or self._asked != asked:
            self.close()
            self._asked, self._pool = asked, VerifierPool(verifier, workers, deadline_s)
        try:
            yield self._pool
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what is kept."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None
